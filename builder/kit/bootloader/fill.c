/* The runtime's files: written into a folder, or into memory with a folder of symbolic links to them. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "entry.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8u
#endif
#ifndef SYS_memfd_create
#error "the number of memfd_create is unknown"
#endif

enum { MOST_LINK = 1024 };

static int make_parents(int home, const char *name)
{
    char part[PATH_MAX];
    for (const char *slash = strchr(name, '/'); slash; slash = strchr(slash + 1, '/')) {
        if ((size_t)(slash - name) >= sizeof part)
            return ENAMETOOLONG;
        memcpy(part, name, (size_t)(slash - name));
        part[slash - name] = 0;
        if (mkdirat(home, part, 0700) != 0 && errno != EEXIST)
            return errno;
    }
    return 0;
}

/* Mount flags do not tell all that may forbid it, so it is tried: may code of this file be run? */
static int may_execute(int fd)
{
    void *page = mmap(NULL, 1, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
    if (page == MAP_FAILED)
        return errno;
    munmap(page, 1);
    return 0;
}

static int read_link(const struct archive *archive, const struct item *item, char *target)
{
    int ends[2];
    if (item->size == 0 || item->size >= MOST_LINK || pipe2(ends, O_CLOEXEC) != 0)
        return EIO;
    int error = archive_extract(archive, item, ends[1]);
    ssize_t got = error ? 0 : read(ends[0], target, MOST_LINK - 1);
    close(ends[0]);
    close(ends[1]);
    target[got > 0 ? got : 0] = 0;
    return got > 0 ? 0 : EIO;
}

static int make_link(int home, const struct archive *archive, const struct item *item)
{
    char target[MOST_LINK];
    int error = read_link(archive, item, target);
    if (error)
        return error;
    return symlinkat(target, home, item->name) == 0 ? 0 : errno;
}

static int write_file(int home, const struct archive *archive, const struct item *item)
{
    mode_t mode = item->type == 'b' ? 0700 : 0600;
    int fd = openat(home, item->name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    if (fd < 0)
        return errno;
    int error = archive_extract(archive, item, fd);
    if (!error && item->type == 'b')
        error = may_execute(fd);
    if (close(fd) != 0 && !error) /* where a full disk or a quota is told last */
        error = errno;
    return error;
}

static int memory_file(const char *name)
{
    int fd = (int)syscall(SYS_memfd_create, name, MFD_CLOEXEC | MFD_NOEXEC_SEAL); /* allowed by every kernel setting */
    return fd < 0 && errno == EINVAL ? (int)syscall(SYS_memfd_create, name, MFD_CLOEXEC) : fd;
}

static int write_memory(int home, const struct archive *archive, const struct item *item)
{
    char link[48];
    int fd = memory_file("mkllm");
    if (fd < 0)
        return errno;
    int error = archive_extract(archive, item, fd);
    if (!error && item->type == 'b')
        error = may_execute(fd);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd); /* stays open as long as the process lives */
    if (!error && symlinkat(link, home, item->name) != 0)
        error = errno;
    return error;
}

static int fill(int home, const struct archive *archive, bool (*stop)(void),
                int (*write_one)(int, const struct archive *, const struct item *))
{
    for (size_t i = 0; i < archive->count; i++) {
        const struct item *item = &archive->items[i];
        int error = stop() ? EINTR : make_parents(home, item->name);
        if (!error)
            error = item->type == 'n' ? make_link(home, archive, item) : write_one(home, archive, item);
        if (error)
            return error;
    }
    return 0;
}

/* 0, or an error number; EINTR when `stop` said so. What is there then is the caller's to remove. */
int fill_files(int home, const struct archive *archive, bool (*stop)(void))
{
    return fill(home, archive, stop, write_file);
}

int fill_memory(int home, const struct archive *archive, bool (*stop)(void))
{
    struct rlimit limit;
    rlim_t wanted = archive->count + 256;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < wanted) {
        limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    if (access("/proc/self/fd", X_OK) != 0)
        return ENOSYS;
    return fill(home, archive, stop, write_memory);
}
