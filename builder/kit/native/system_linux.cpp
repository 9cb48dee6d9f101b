// What system_posix.cpp leaves to it.
#include "system.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <ctime>
#include <memory>

#include <fcntl.h>
#include <linux/memfd.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace {

using file = std::unique_ptr<FILE, int (*)(FILE *)>;

uint64_t number_in(const char * path) {
    const file f{ std::fopen(path, "re"), std::fclose };
    unsigned long long value = UINT64_MAX;
    return f && std::fscanf(f.get(), "%llu", &value) == 1 ? (uint64_t) value : UINT64_MAX;
}

}  // namespace

unsigned mkllm_processors_allowed() {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) ? 1 : (unsigned) CPU_COUNT(&set);
}

uint64_t mkllm_free_memory() {
    uint64_t least = UINT64_MAX;
    if (const file facts{ std::fopen("/proc/meminfo", "re"), std::fclose }) {
        char line[256];
        unsigned long long kib;
        while (std::fgets(line, sizeof line, facts.get())) {
            if (std::sscanf(line, "MemAvailable: %llu kB", &kib) == 1) {
                least = kib << 10;
            }
        }
    }
    const uint64_t limit = number_in("/sys/fs/cgroup/memory.max"), used = number_in("/sys/fs/cgroup/memory.current");
    return limit == UINT64_MAX || used == UINT64_MAX ? least : std::min(least, limit - std::min(limit, used));
}

FILE * mkllm_reopen(int fd, int64_t offset) {
    const std::string proc = "/proc/self/fd/" + std::to_string(fd);
    file f(std::fopen(proc.c_str(), "rbe"), std::fclose);
    return f && fseeko(f.get(), (off_t) offset, SEEK_SET) == 0 ? f.release() : nullptr;
}

int64_t mkllm_write_quietly(int fd, const char * data, size_t size) {
    sigset_t pipe_signal, before;
    sigemptyset(&pipe_signal);
    sigaddset(&pipe_signal, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_signal, &before);
    const int64_t n = mkllm_write(fd, data, size);
    if (n == -1 && errno == EPIPE) {
        const timespec now = {};
        sigtimedwait(&pipe_signal, nullptr, &now);
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return n;
}

int mkllm_memory_file() {
    return (int) syscall(SYS_memfd_create, "model.gguf", MFD_CLOEXEC);
}

void mkllm_punch(int fd, int64_t begin, int64_t end) {
    fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t) begin, (off_t) (end - begin));  // a wish
}

void mkllm_forget(void * begin, size_t size) {
    madvise(begin, size, MADV_DONTNEED);
}

void mkllm_wish_huge_pages(void * begin, size_t size) {
    madvise(begin, size, MADV_HUGEPAGE);
}
