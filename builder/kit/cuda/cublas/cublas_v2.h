// What ggml's CUDA backend calls of cuBLAS, by cuBLAS's names: as much of its interface as that, and no more. The values are
// this file's own, since nothing that was compiled against NVIDIA's is linked to it. Matrices lie column by column.
#pragma once

#include <cuda_runtime.h>
#include <library_types.h>

typedef struct mkllm_blas * cublasHandle_t;

typedef enum {
    CUBLAS_STATUS_SUCCESS,
    CUBLAS_STATUS_NOT_INITIALIZED,
    CUBLAS_STATUS_ALLOC_FAILED,
    CUBLAS_STATUS_INVALID_VALUE,
    CUBLAS_STATUS_ARCH_MISMATCH,
    CUBLAS_STATUS_MAPPING_ERROR,
    CUBLAS_STATUS_EXECUTION_FAILED,
    CUBLAS_STATUS_INTERNAL_ERROR,
    CUBLAS_STATUS_NOT_SUPPORTED,
} cublasStatus_t;

typedef enum { CUBLAS_OP_N, CUBLAS_OP_T } cublasOperation_t;
typedef enum { CUBLAS_SIDE_LEFT, CUBLAS_SIDE_RIGHT } cublasSideMode_t;
typedef enum { CUBLAS_FILL_MODE_LOWER, CUBLAS_FILL_MODE_UPPER } cublasFillMode_t;
typedef enum { CUBLAS_DIAG_NON_UNIT, CUBLAS_DIAG_UNIT } cublasDiagType_t;
typedef enum { CUBLAS_DEFAULT_MATH, CUBLAS_TF32_TENSOR_OP_MATH } cublasMath_t;
// What alpha and beta are of; sums are always of floats.
typedef enum { CUBLAS_COMPUTE_16F, CUBLAS_COMPUTE_32F } cublasComputeType_t;
typedef enum { CUBLAS_GEMM_DEFAULT, CUBLAS_GEMM_DEFAULT_TENSOR_OP } cublasGemmAlgo_t;

cublasStatus_t cublasCreate(cublasHandle_t * handle);
cublasStatus_t cublasDestroy(cublasHandle_t handle);
cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream);
cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode);
const char *   cublasGetStatusString(cublasStatus_t status);

// C = alpha op(A) op(B) + beta C, where op(A) is m x k and op(B) is k x n.
cublasStatus_t cublasSgemm(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n, int k,
                           const float * alpha, const float * a, int lda, const float * b, int ldb, const float * beta,
                           float * c, int ldc);

cublasStatus_t cublasSgemmStridedBatched(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m,
                                         int n, int k, const float * alpha, const float * a, int lda,
                                         long long stride_a, const float * b, int ldb, long long stride_b,
                                         const float * beta, float * c, int ldc, long long stride_c, int count);

cublasStatus_t cublasSgemmBatched(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n,
                                  int k, const float * alpha, const float * const * a, int lda, const float * const * b,
                                  int ldb, const float * beta, float * const * c, int ldc, int count);

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n, int k,
                            const void * alpha, const void * a, cudaDataType type_a, int lda, const void * b,
                            cudaDataType type_b, int ldb, const void * beta, void * c, cudaDataType type_c, int ldc,
                            cublasComputeType_t compute, cublasGemmAlgo_t algorithm);

cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m,
                                          int n, int k, const void * alpha, const void * a, cudaDataType type_a, int lda,
                                          long long stride_a, const void * b, cudaDataType type_b, int ldb,
                                          long long stride_b, const void * beta, void * c, cudaDataType type_c, int ldc,
                                          long long stride_c, int count, cublasComputeType_t compute,
                                          cublasGemmAlgo_t algorithm);

cublasStatus_t cublasGemmBatchedEx(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m, int n,
                                   int k, const void * alpha, const void * const * a, cudaDataType type_a, int lda,
                                   const void * const * b, cudaDataType type_b, int ldb, const void * beta,
                                   void * const * c, cudaDataType type_c, int ldc, int count,
                                   cublasComputeType_t compute, cublasGemmAlgo_t algorithm);

// X of X A = alpha B, for each of `count` pairs; A is n x n and triangular, B is m x n and is overwritten by X.
cublasStatus_t cublasStrsmBatched(cublasHandle_t handle, cublasSideMode_t side, cublasFillMode_t fill,
                                  cublasOperation_t op, cublasDiagType_t diagonal, int m, int n, const float * alpha,
                                  const float * const * a, int lda, float * const * b, int ldb, int count);
