// The calls that ggml's CUDA backend makes of cuBLAS. Quantized weights hardly ever come here: ggml has kernels of its own for
// them on every GPU that this module serves. What does come is products of floats, halves and bfloat16 with more than a few columns.
#include "cublas_v2.h"

#include "product.h"
#include "tensor.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <mma.h>

#include <algorithm>
#include <new>
#include <type_traits>

struct mkllm_blas {
    cudaStream_t stream = nullptr;
};

namespace {

using mkllm::Batch;
using mkllm::Plain;
using mkllm::Product;

constexpr int GRID = 65535;  // blocks in the second and third dimension
constexpr int ROWS_OF_A_SYSTEM = 64;

template <typename T> struct Wmma {
    using A   = nvcuda::wmma::fragment<nvcuda::wmma::matrix_a, 16, 16, 16, T, nvcuda::wmma::col_major>;
    using B   = nvcuda::wmma::fragment<nvcuda::wmma::matrix_b, 16, 16, 16, T, nvcuda::wmma::col_major>;
    using Sum = nvcuda::wmma::fragment<nvcuda::wmma::accumulator, 16, 16, 16, float>;

    static __device__ void clear(Sum & sum) { nvcuda::wmma::fill_fragment(sum, 0.0f); }
    template <typename F> static __device__ void load(F & to, const T * from, int ld) {
        nvcuda::wmma::load_matrix_sync(to, from, ld);
    }
    static __device__ void add(Sum & sum, const A & a, const B & b) { nvcuda::wmma::mma_sync(sum, a, b, sum); }
    static __device__ void store(float * to, const Sum & from, int ld) {
        nvcuda::wmma::store_matrix_sync(to, from, ld, nvcuda::wmma::mem_col_major);
    }
};

// Tensor cores multiply halves on every GPU that this module serves, bfloat16 since Ampere (8.0).
template <typename T> __host__ __device__ constexpr bool on_tensor_cores() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
    return std::is_same_v<T, half>;
#else
    return !std::is_same_v<T, float>;
#endif
}

template <typename T, typename C> __device__ void multiply_plain(const Product & p, const T * a, const T * b, C * c) {
    __shared__ Plain::Memory memory;
    const int row0 = blockIdx.x * Plain::ROWS, column0 = blockIdx.y * Plain::COLUMNS, thread = threadIdx.x;
    Plain     own;
    for (int depth0 = 0; depth0 < p.k; depth0 += Plain::DEPTH) {
        memory.load(p, a, b, row0, column0, depth0, thread, Plain::THREADS);
        __syncthreads();
        own.add(memory, thread);
        __syncthreads();
    }
    own.store(p, c, row0, column0, thread);
}

template <typename T, typename C> __device__ void multiply_by_tensors(const Product & p, const T * a, const T * b, C * c) {
    using Tensor = mkllm::Tensor<T, Wmma<T>>;
    __shared__ typename Tensor::Memory memory;
    const int row0 = blockIdx.x * Tensor::ROWS, column0 = blockIdx.y * Tensor::COLUMNS;
    const int thread = threadIdx.x, warp = thread / Tensor::WARP;
    Tensor    own;
    own.clear();
    for (int depth0 = 0; depth0 < p.k; depth0 += Tensor::DEPTH) {
        memory.strips.load(p, a, b, row0, column0, depth0, thread, Tensor::THREADS);
        __syncthreads();
        own.add(memory.strips, warp);
        __syncthreads();
    }
    own.unload(memory.c, warp);
    __syncthreads();
    Tensor::store(p, memory.c, c, row0, column0, thread);
    __syncthreads();
}

template <typename T, typename C>
__global__ void __launch_bounds__(Plain::THREADS)
    products(Product p, Batch<const T> a, Batch<const T> b, Batch<C> c, int count) {
    for (int z = blockIdx.z; z < count; z += gridDim.z) {
        if constexpr (on_tensor_cores<T>()) {
            multiply_by_tensors(p, a.at(z), b.at(z), c.at(z));
        } else {
            multiply_plain(p, a.at(z), b.at(z), c.at(z));
        }
    }
}

__global__ void solve_systems(int m, int n, float alpha, const float * const * a, int lda, float * const * b, int ldb,
                              int count) {
    const int row = blockIdx.x * blockDim.x + threadIdx.x;
    if (row < m) {
        for (int y = blockIdx.y; y < count; y += gridDim.y) {
            mkllm::solve_row(n, alpha, a[y], lda, b[y], ldb, row);
        }
    }
}

int tiles(int length, int tile) {
    return length / tile + (length % tile != 0);
}

cublasStatus_t launched() {
    return cudaGetLastError() == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

template <typename T, typename C>
cublasStatus_t multiply(cublasHandle_t handle, const Product & p, Batch<const T> a, Batch<const T> b, Batch<C> c,
                        int count) {
    if (p.m < 0 || p.n < 0 || p.k < 0 || count < 0) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    if (p.m == 0 || p.n == 0 || count == 0) {
        return CUBLAS_STATUS_SUCCESS;
    }
    const dim3 grid(tiles(p.m, Plain::ROWS), tiles(p.n, Plain::COLUMNS), std::min(count, GRID));
    if (grid.y > GRID) {
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    products<<<grid, Plain::THREADS, 0, handle->stream>>>(p, a, b, c, count);
    return launched();
}

template <typename T> Batch<const T> operand(const void * first, long long stride, const void * const * each) {
    return {static_cast<const T *>(first), stride, reinterpret_cast<const T * const *>(each)};
}

template <typename T> Batch<T> result(void * first, long long stride, void * const * each) {
    return {static_cast<T *>(first), stride, reinterpret_cast<T * const *>(each)};
}

// One matrix, matrices at a distance, or those of three lists: `each_*` null, or `first_*`.
struct Operands {
    const void * first_a, * first_b;
    void *       first_c;
    long long    stride_a, stride_b, stride_c;
    const void * const * each_a, * const * each_b;
    void * const *       each_c;
    cudaDataType         type_a, type_b, type_c;
};

template <typename T, typename C>
cublasStatus_t multiply(cublasHandle_t handle, const Product & p, const Operands & o, int count) {
    return multiply<T, C>(handle, p, operand<T>(o.first_a, o.stride_a, o.each_a),
                          operand<T>(o.first_b, o.stride_b, o.each_b), result<C>(o.first_c, o.stride_c, o.each_c),
                          count);
}

float scalar(const void * value, cublasComputeType_t compute) {
    return compute == CUBLAS_COMPUTE_16F ? __half2float(*static_cast<const half *>(value))
                                         : *static_cast<const float *>(value);
}

cublasStatus_t multiply(cublasHandle_t handle, const Product & p, const Operands & o, int count) {
    if (o.type_a != o.type_b) {
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    if (o.type_a == CUDA_R_32F && o.type_c == CUDA_R_32F) {
        return multiply<float, float>(handle, p, o, count);
    }
    if (o.type_a == CUDA_R_16F && o.type_c == CUDA_R_32F) {
        return multiply<half, float>(handle, p, o, count);
    }
    if (o.type_a == CUDA_R_16F && o.type_c == CUDA_R_16F) {
        return multiply<half, half>(handle, p, o, count);
    }
    if (o.type_a == CUDA_R_16BF && o.type_c == CUDA_R_32F) {
        return multiply<nv_bfloat16, float>(handle, p, o, count);
    }
    return CUBLAS_STATUS_NOT_SUPPORTED;
}

} // namespace

cublasStatus_t cublasCreate(cublasHandle_t * handle) {
    *handle = new (std::nothrow) mkllm_blas;
    return *handle ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_ALLOC_FAILED;
}

cublasStatus_t cublasDestroy(cublasHandle_t handle) {
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream) {
    handle->stream = stream;
    return CUBLAS_STATUS_SUCCESS;
}

// Floats are multiplied as floats in any mode.
cublasStatus_t cublasSetMathMode(cublasHandle_t, cublasMath_t) {
    return CUBLAS_STATUS_SUCCESS;
}

const char * cublasGetStatusString(cublasStatus_t status) {
    switch (status) {
        case CUBLAS_STATUS_SUCCESS: return "success";
        case CUBLAS_STATUS_NOT_INITIALIZED: return "not initialized";
        case CUBLAS_STATUS_ALLOC_FAILED: return "out of memory";
        case CUBLAS_STATUS_INVALID_VALUE: return "a value that cannot be";
        case CUBLAS_STATUS_EXECUTION_FAILED: return "the GPU did not start the work";
        case CUBLAS_STATUS_NOT_SUPPORTED: return "not among the products that this module can compute";
        default: return "unknown error";
    }
}

cublasStatus_t cublasSgemm(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n, int k,
                           const float * alpha, const float * a, int lda, const float * b, int ldb, const float * beta,
                           float * c, int ldc) {
    return cublasSgemmStridedBatched(handle, op_a, op_b, m, n, k, alpha, a, lda, 0, b, ldb, 0, beta, c, ldc, 0, 1);
}

cublasStatus_t cublasSgemmStridedBatched(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m,
                                         int n, int k, const float * alpha, const float * a, int lda,
                                         long long stride_a, const float * b, int ldb, long long stride_b,
                                         const float * beta, float * c, int ldc, long long stride_c, int count) {
    return cublasGemmStridedBatchedEx(handle, op_a, op_b, m, n, k, alpha, a, CUDA_R_32F, lda, stride_a, b, CUDA_R_32F,
                                      ldb, stride_b, beta, c, CUDA_R_32F, ldc, stride_c, count, CUBLAS_COMPUTE_32F,
                                      CUBLAS_GEMM_DEFAULT);
}

cublasStatus_t cublasSgemmBatched(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n,
                                  int k, const float * alpha, const float * const * a, int lda, const float * const * b,
                                  int ldb, const float * beta, float * const * c, int ldc, int count) {
    return cublasGemmBatchedEx(handle, op_a, op_b, m, n, k, alpha, reinterpret_cast<const void * const *>(a),
                               CUDA_R_32F, lda, reinterpret_cast<const void * const *>(b), CUDA_R_32F, ldb, beta,
                               reinterpret_cast<void * const *>(c), CUDA_R_32F, ldc, count, CUBLAS_COMPUTE_32F,
                               CUBLAS_GEMM_DEFAULT);
}

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n, int k,
                            const void * alpha, const void * a, cudaDataType type_a, int lda, const void * b,
                            cudaDataType type_b, int ldb, const void * beta, void * c, cudaDataType type_c, int ldc,
                            cublasComputeType_t compute, cublasGemmAlgo_t algorithm) {
    return cublasGemmStridedBatchedEx(handle, op_a, op_b, m, n, k, alpha, a, type_a, lda, 0, b, type_b, ldb, 0, beta, c,
                                      type_c, ldc, 0, 1, compute, algorithm);
}

cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m,
                                          int n, int k, const void * alpha, const void * a, cudaDataType type_a, int lda,
                                          long long stride_a, const void * b, cudaDataType type_b, int ldb,
                                          long long stride_b, const void * beta, void * c, cudaDataType type_c, int ldc,
                                          long long stride_c, int count, cublasComputeType_t compute,
                                          cublasGemmAlgo_t) {
    const Product  p{m, n, k, op_a == CUBLAS_OP_T, op_b == CUBLAS_OP_T, lda, ldb, ldc, scalar(alpha, compute),
                    scalar(beta, compute)};
    const Operands o{a, b, c, stride_a, stride_b, stride_c, nullptr, nullptr, nullptr, type_a, type_b, type_c};
    return multiply(handle, p, o, count);
}

cublasStatus_t cublasGemmBatchedEx(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n,
                                   int k, const void * alpha, const void * const * a, cudaDataType type_a, int lda,
                                   const void * const * b, cudaDataType type_b, int ldb, const void * beta,
                                   void * const * c, cudaDataType type_c, int ldc, int count,
                                   cublasComputeType_t compute, cublasGemmAlgo_t) {
    const Product  p{m, n, k, op_a == CUBLAS_OP_T, op_b == CUBLAS_OP_T, lda, ldb, ldc, scalar(alpha, compute),
                    scalar(beta, compute)};
    const Operands o{nullptr, nullptr, nullptr, 0, 0, 0, a, b, c, type_a, type_b, type_c};
    return multiply(handle, p, o, count);
}

cublasStatus_t cublasStrsmBatched(cublasHandle_t handle, cublasSideMode_t side, cublasFillMode_t fill,
                                  cublasOperation_t op, cublasDiagType_t diagonal, int m, int n, const float * alpha,
                                  const float * const * a, int lda, float * const * b, int ldb, int count) {
    if (side != CUBLAS_SIDE_RIGHT || fill != CUBLAS_FILL_MODE_UPPER || op != CUBLAS_OP_N ||
        diagonal != CUBLAS_DIAG_NON_UNIT) {
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    if (m <= 0 || n <= 0 || count <= 0) {
        return m < 0 || n < 0 || count < 0 ? CUBLAS_STATUS_INVALID_VALUE : CUBLAS_STATUS_SUCCESS;
    }
    const dim3 grid(tiles(m, ROWS_OF_A_SYSTEM), std::min(count, GRID));
    solve_systems<<<grid, ROWS_OF_A_SYSTEM, 0, handle->stream>>>(m, n, *alpha, a, lda, b, ldb, count);
    return launched();
}
