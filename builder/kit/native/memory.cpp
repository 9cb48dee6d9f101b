// Memory at the start of the engine (memory.h). Part of llama itself, so that it knows nothing but ggml.
#include "ggml-backend.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#ifdef __linux__
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace {

const size_t LONG    = 1 << 20;  // what is shorter is cleared as quickly
const size_t SAMPLES = 1024;
const int    POPULATE = 0x8000;  // MAP_POPULATE (linux/mman.h)

// Of a file of another user the kernel tells nothing (mincore says that all of it is there): then it is read.
bool is_cached(int fd, size_t size) {
    struct stat facts;
    if (fstat(fd, &facts) == -1 || facts.st_uid != geteuid()) {
        return false;
    }
    const size_t page = (size_t) sysconf(_SC_PAGESIZE);
    const size_t step = std::max(page, size / SAMPLES / page * page);
    void * start = mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
    if (start == MAP_FAILED) {
        return false;
    }
    bool all = true;
    for (size_t at = 0; all && at < size; at += step) {
        unsigned char there = 0;
        all = mincore((char *) start + at, 1, &there) == 0 && (there & 1);
    }
    munmap(start, size);
    return all;
}

// Pages that are given back are zeros when they are next looked at. Only a process's own memory is: not a device's, which
// drivers lend to the host.
bool give_back(ggml_backend_buffer_t buffer) {
    const size_t page = (size_t) sysconf(_SC_PAGESIZE), size = ggml_backend_buffer_get_size(buffer);
    if (ggml_backend_buffer_get_type(buffer) != ggml_backend_cpu_buffer_type() || size < LONG) {
        return false;
    }
    char * start = (char *) ggml_backend_buffer_get_base(buffer);
    char * first = (char *) (((uintptr_t) start + page - 1) / page * page);
    char * last  = (char *) ((uintptr_t) (start + size) / page * page);
    if (madvise(first, (size_t) (last - first), MADV_DONTNEED) != 0) {
        return false;
    }
    std::memset(start, 0, (size_t) (first - start));
    std::memset(last, 0, (size_t) (start + size - last));
    return true;
}

}  // namespace

extern "C" int mkllm_populate(int fd, unsigned long size) {
    return is_cached(fd, size) ? 0 : POPULATE;
}
#else
static bool give_back(ggml_backend_buffer_t) {
    return false;
}
#endif

extern "C" void mkllm_buffer_clear(ggml_backend_buffer_t buffer, uint8_t value) {
    if (value || !give_back(buffer)) {
        ggml_backend_buffer_clear(buffer, value);
    }
}
