// llama.cpp's matrix products of quantized weights, compiled apart from those of floats, for AVX2 without AVX-512: with 16
// vector registers no one schedule suits both, and clang has two habits to be talked out of (spec/compiler.md). The floats
// are the same file with its function renamed (CMakeLists.txt); here is the function that its callers know.
#include <immintrin.h>

#ifdef __clang__
// Behind a value that both halves of a register share, clang takes each shuffle of the two halves apart into two
// instructions; an empty statement that may have changed the value keeps them as they are written.
#undef _mm256_permute2f128_ps
#define _mm256_permute2f128_ps(a, b, control) mkllm_permute2f128<control>(a, b)

template <int control> inline __attribute__((always_inline)) __m256 mkllm_permute2f128(__m256 a, __m256 b) {
    __m256 result = (__m256) __builtin_ia32_vperm2f128_ps256((__v8sf) a, (__v8sf) b, control);
    __asm__("" : "+x"(result));
    return result;
}

// The absolute values of a row, sign(a, a), are the same for every column, and clang keeps those of four rows on the stack
// to save a single instruction each. Made to depend on the scales of the column, `dvec` where the loops of four rows are,
// they are computed anew. Where there is no `dvec` the name is this number, and nothing depends on it.
static const int dvec = 0;

inline __attribute__((always_inline)) __m256i mkllm_sign(__m256i a, __m256i b) {
    return (__m256i) __builtin_ia32_psignb256((__v32qi) a, (__v32qi) b);
}

inline __attribute__((always_inline)) __m256i mkllm_absolute(__m256i a, __m256 scales) {
    __m256i result;
    __asm__("vpabsb %1, %0" : "=x"(result) : "x"(a), "x"(scales));
    return result;
}

inline __attribute__((always_inline)) __m256i mkllm_absolute(__m256i a, int) {
    return mkllm_sign(a, a);
}

#define _mm256_sign_epi8(a, b) (__builtin_strcmp(#a, #b) == 0 ? mkllm_absolute(a, dvec) : mkllm_sign(a, b))
#endif

#define llamafile_sgemm mkllm_sgemm_quants
#include "llamafile/sgemm.cpp"
#undef llamafile_sgemm

extern "C" {

bool mkllm_sgemm_floats(const struct ggml_compute_params *, int64_t, int64_t, int64_t, const void *, int64_t, const void *,
                        int64_t, void *, int64_t, int, int, int);

bool llamafile_sgemm(const struct ggml_compute_params * params, int64_t m, int64_t n, int64_t k, const void * A, int64_t lda,
                     const void * B, int64_t ldb, void * C, int64_t ldc, int Atype, int Btype, int Ctype) {
    const bool floats = Atype == GGML_TYPE_F32 || Atype == GGML_TYPE_F16 || Atype == GGML_TYPE_BF16;
    const auto product = floats ? mkllm_sgemm_floats : mkllm_sgemm_quants;
    return product(params, m, n, k, A, lda, B, ldb, C, ldc, Atype, Btype, Ctype);
}

}
