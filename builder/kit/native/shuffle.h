// Included before one file of kernels (CMakeLists.txt). Behind a value that both halves of a register share, clang takes
// each shuffle of the two halves apart into two instructions, with the first four lanes as their source; an empty
// statement that may have changed the value keeps them as they are written (spec/compiler.md).
#include <immintrin.h>

#ifdef __AVX__
#undef _mm256_permute2f128_ps

template <int control> inline __attribute__((always_inline)) __m256 mkllm_permute2f128(__m256 a, __m256 b) {
    __m256 result = (__m256) __builtin_ia32_vperm2f128_ps256((__v8sf) a, (__v8sf) b, control);
    __asm__("" : "+x"(result));
    return result;
}

#define _mm256_permute2f128_ps(a, b, control) mkllm_permute2f128<control>(a, b)
#endif
