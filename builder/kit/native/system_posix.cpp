// Of Linux and macOS alike; what differs is in system_linux.cpp and system_macos.cpp.
#include "system.h"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <memory>

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>
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

int mkllm_inherited(long long number) {
    return number < 0 || number > 1 << 20 || fcntl((int) number, F_SETFD, FD_CLOEXEC) == -1 ? -1 : (int) number;
}

int64_t mkllm_file_size(int fd) {
    struct stat facts;
    return fstat(fd, &facts) == -1 ? -1 : (int64_t) facts.st_size;
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
    void * begin = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON | MAP_NORESERVE, -1, 0);
    return begin == MAP_FAILED ? nullptr : begin;
}

bool mkllm_commit(void *, size_t) {
    return true;  // memory comes to what is written
}

void mkllm_release(void * begin, size_t size) {
    munmap(begin, size);
}

void mkllm_wish_locked(void * begin, size_t size) {
    mlock(begin, size);
}
