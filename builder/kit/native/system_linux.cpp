#include "system.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <ctime>
#include <memory>

#include <fcntl.h>
#include <linux/memfd.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace {

struct task {
    void (*work)(int);
    int argument;
};

void * run(void * given) {
    const std::unique_ptr<task> t((task *) given);
    t->work(t->argument);
    return nullptr;
}

using file = std::unique_ptr<FILE, int (*)(FILE *)>;

uint64_t number_in(const char * path) {
    const file f{ std::fopen(path, "re"), std::fclose };
    unsigned long long value = UINT64_MAX;
    return f && std::fscanf(f.get(), "%llu", &value) == 1 ? (uint64_t) value : UINT64_MAX;
}

template <typename call> int64_t uninterrupted(const call & once) {
    ssize_t n;
    do {
        n = once();
    } while (n == -1 && errno == EINTR);
    return n;
}

}  // namespace

const char MKLLM_SEPARATOR = ':';

void mkllm_prepare_process(int &, char **&) {}

void mkllm_binary_output() {}

std::optional<std::string> mkllm_take_variable(const char * name) {
    const char * value = std::getenv(name);
    std::optional<std::string> copy;
    if (value) {
        copy = value;
    }
    unsetenv(name);
    return copy;
}

int mkllm_start_thread(void (*work)(int), int argument) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    auto t = std::make_unique<task>(task{ work, argument });
    pthread_t thread;
    const int error = pthread_create(&thread, nullptr, run, t.get());
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (!error) {
        t.release();
        pthread_detach(thread);
    }
    return error;
}

std::string mkllm_module_name(const std::string & path) {
    return path;
}

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

int mkllm_inherited(long long number) {
    return number < 0 || number > 1 << 20 || fcntl((int) number, F_SETFD, FD_CLOEXEC) == -1 ? -1 : (int) number;
}

int64_t mkllm_file_size(int fd) {
    struct stat facts;
    return fstat(fd, &facts) == -1 ? -1 : (int64_t) facts.st_size;
}

FILE * mkllm_reopen(int fd, int64_t offset) {
    const std::string proc = "/proc/self/fd/" + std::to_string(fd);
    file f(std::fopen(proc.c_str(), "rbe"), std::fclose);
    return f && fseeko(f.get(), (off_t) offset, SEEK_SET) == 0 ? f.release() : nullptr;
}

int64_t mkllm_read_at(int fd, char * data, size_t size, int64_t offset) {
    return uninterrupted([&] { return pread(fd, data, size, (off_t) offset); });
}

int64_t mkllm_write_at(int fd, const char * data, size_t size, int64_t offset) {
    return uninterrupted([&] { return pwrite(fd, data, size, (off_t) offset); });
}

int64_t mkllm_write(int fd, const char * data, size_t size) {
    return uninterrupted([&] { return write(fd, data, size); });
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

size_t mkllm_page() {
    return (size_t) sysconf(_SC_PAGESIZE);
}

size_t mkllm_granularity() {
    return mkllm_page();
}

void * mkllm_map(int fd, int64_t offset, size_t size) {
    void * begin = mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, (off_t) offset);
    return begin == MAP_FAILED ? nullptr : begin;
}

void mkllm_unmap(void * begin, size_t size) {
    munmap(begin, size);
}

void * mkllm_reserve(size_t size) {
    void * begin = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return begin == MAP_FAILED ? nullptr : begin;
}

bool mkllm_commit(void *, size_t) {
    return true;  // memory comes to what is written
}

void mkllm_forget(void * begin, size_t size) {
    madvise(begin, size, MADV_DONTNEED);
}

void mkllm_release(void * begin, size_t size) {
    munmap(begin, size);
}

void mkllm_wish_huge_pages(void * begin, size_t size) {
    madvise(begin, size, MADV_HUGEPAGE);
}

void mkllm_wish_locked(void * begin, size_t size) {
    mlock(begin, size);
}
