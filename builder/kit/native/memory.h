// Included before sources of llama.cpp that map files and clear caches: what the kernel has done already is not done again.
#pragma once

#include <stdint.h>

#ifdef __linux__
#include <sys/mman.h>

#ifdef __cplusplus
extern "C" {
#endif

// MAP_POPULATE, unless the file is in the page cache: then its pages are mapped as they are used, by all threads.
int mkllm_populate(int fd, unsigned long size);

#ifdef __cplusplus
}
#endif

#undef MAP_POPULATE
#define MAP_POPULATE mkllm_populate(fd, file->size())
#endif

#define ggml_backend_buffer_clear mkllm_buffer_clear
