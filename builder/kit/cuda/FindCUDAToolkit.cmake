# In the place of CMake's module of this name, which would look for a whole toolkit of CUDA: here is the compiler, and what
# comes with it, in the folder above it. The runtime is linked statically.
set(CUDAToolkit_FOUND TRUE)
set(CUDAToolkit_VERSION ${CMAKE_CUDA_COMPILER_VERSION})

if (NOT TARGET CUDA::cudart)
    # With a compiler for CUDA, CMake links the static runtime of itself.
    add_library(CUDA::cudart INTERFACE IMPORTED)
    add_library(CUDA::cublas ALIAS mkllm-cublas)
    add_library(CUDA::cuda_driver ALIAS mkllm-cuda-driver)
endif()
