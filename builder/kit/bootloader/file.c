/* The running file: found once, kept open, read from its descriptor, so that replacing it meanwhile does no harm. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "entry.h"

static const struct file *running;

/* A program loader (`ld-linux-x86-64.so.2 ./mistral`) is then what /proc/self/exe names. */
static bool is_loader(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    return strncmp(name, "ld-", 3) == 0 && strstr(name, ".so") != NULL;
}

static int open_first(struct file *file, const char *argv0)
{
    const char *started = (const char *)getauxval(AT_EXECFN);
    char link[PATH_MAX] = "";
    ssize_t length = readlink("/proc/self/exe", link, sizeof link - 1);
    if (length > 0 && !is_loader(link)) {
        snprintf(file->path, sizeof file->path, "%s", link);
        return open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    }
    const char *name = length > 0 || !started ? argv0 : started;
    if (!name || !realpath(name, file->path))
        return -1;
    return open(file->path, O_RDONLY | O_CLOEXEC);
}

static void forget_deleted(char *path)
{
    static const char mark[] = " (deleted)";
    size_t length = strlen(path), tail = sizeof mark - 1;
    if (length > tail && strcmp(path + length - tail, mark) == 0 && access(path, F_OK) != 0)
        path[length - tail] = 0;
}

/* As PyInstaller judges it: by the file; and as the kernel does: by what the process was given. */
static bool is_elevated(int fd, const struct stat *status)
{
    return (status->st_mode & (S_ISUID | S_ISGID)) || getauxval(AT_SECURE) ||
           fgetxattr(fd, "security.capability", NULL, 0) > 0;
}

void file_open(struct file *file, const char *argv0)
{
    struct stat status;
    file->path[0] = 0;
    file->fd = open_first(file, argv0);
    say_name(argv0, file->path);
    if (file->fd < 0 || fstat(file->fd, &status) != 0)
        fail(EXIT_DAMAGED, "this program cannot read its own file (%s): make it readable with chmod +r, or mount /proc",
             strerror(errno));
    forget_deleted(file->path);
    file->size = (uint64_t)status.st_size;
    file->elevated = is_elevated(file->fd, &status);
    running = file;
}

/* False when the file ends before, or cannot be read. */
bool file_read(const struct file *file, uint64_t offset, void *buffer, size_t length)
{
    char *next = buffer;
    while (length) {
        ssize_t got = pread(file->fd, next, length, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        next += got;
        offset += (uint64_t)got;
        length -= (size_t)got;
    }
    return true;
}

/* PyInstaller's pyi_main.c is compiled with this in the place of realpath. Its loader opens the archive by name at every
 * import, hours after the start; by this name it always reaches the file that was started, whatever lies at the path then.
 * An elevated program keeps the true path, because PyInstaller compares it with its parent's. */
char *entry_realpath(const char *path, char *resolved)
{
    if (strcmp(path, "/proc/self/exe") != 0)
        return realpath(path, resolved);
    if (running->elevated || access("/proc/self/fd", F_OK) != 0)
        return strcpy(resolved, running->path);
    sprintf(resolved, "/proc/self/fd/%d", running->fd);
    return resolved;
}
