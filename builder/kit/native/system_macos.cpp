// What system_posix.cpp leaves to it.
#include "system.h"

#include <climits>
#include <cstdlib>
#include <memory>

#include <fcntl.h>
#include <mach/mach.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysctl.h>
#include <unistd.h>

using file = std::unique_ptr<FILE, int (*)(FILE *)>;

// There is no affinity: a process may use them all.
unsigned mkllm_processors_allowed() {
    int count = 1;
    size_t size = sizeof count;
    return sysctlbyname("hw.logicalcpu", &count, &size, nullptr, 0) || count < 1 ? 1 : (unsigned) count;
}

// What nobody uses, and what is only kept because it might be.
uint64_t mkllm_free_memory() {
    vm_statistics64_data_t facts;
    mach_msg_type_number_t count = HOST_VM_INFO64_COUNT;
    const mach_port_t host = mach_host_self();
    const kern_return_t asked = host_statistics64(host, HOST_VM_INFO64, (host_info64_t) &facts, &count);
    mach_port_deallocate(mach_task_self(), host);
    return asked == KERN_SUCCESS ? ((uint64_t) facts.free_count + facts.inactive_count) * mkllm_page() : UINT64_MAX;
}

// By its name, since opening a descriptor under /dev/fd gives one that shares its position. A file that has lost its name has to
// do with that: whoever gave it reads and writes by offsets.
FILE * mkllm_reopen(int fd, int64_t offset) {
    char path[PATH_MAX];
    struct stat wanted, found;
    if (fstat(fd, &wanted) == -1) {
        return nullptr;
    }
    file f(nullptr, std::fclose);
    if (wanted.st_nlink == 0) {
        const int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        f.reset(copy == -1 ? nullptr : fdopen(copy, "rb"));
        if (!f && copy != -1) {
            close(copy);
        }
    } else if (fcntl(fd, F_GETPATH, path) != -1) {
        f.reset(std::fopen(path, "rb"));
        const bool opened = f && fcntl(fileno(f.get()), F_SETFD, FD_CLOEXEC) != -1 && fstat(fileno(f.get()), &found) != -1;
        if (!opened || wanted.st_dev != found.st_dev || wanted.st_ino != found.st_ino) {
            return nullptr;
        }
    }
    return f && fseeko(f.get(), (off_t) offset, SEEK_SET) == 0 ? f.release() : nullptr;
}

// The signal would be the process's, whichever thread writes and whatever that has blocked.
int64_t mkllm_write_quietly(int fd, const char * data, size_t size) {
    fcntl(fd, F_SETNOSIGPIPE, 1);
    return mkllm_write(fd, data, size);
}

// There are no files in memory alone: one without a name, of which what is in use stays in memory while there is room.
int mkllm_memory_file() {
    const char * folder = std::getenv("TMPDIR");
    std::string path = std::string(folder && *folder ? folder : "/tmp") + "/mkllm-XXXXXX";
    const int fd = mkostemp(path.data(), O_CLOEXEC);
    if (fd != -1) {
        unlink(path.c_str());
    }
    return fd;
}

void mkllm_punch(int fd, int64_t begin, int64_t end) {
    fpunchhole_t hole = {};
    hole.fp_offset = (off_t) begin;
    hole.fp_length = (off_t) (end - begin);
    fcntl(fd, F_PUNCHHOLE, &hole);  // a wish
}

void mkllm_forget(void * begin, size_t size) {
    madvise(begin, size, MADV_FREE);
}

void mkllm_wish_huge_pages(void *, size_t) {}
