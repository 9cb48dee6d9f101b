/* Folders: made, locked as long as they are used, and removed when nobody uses them. A lock (flock) on the folder itself
 * tells that it is in use: it ends with its process, however that ends, and does not mistake another process, nor one of
 * another container, for it, as a process number would. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "entry.h"

/* Not a secret, only a name that hardly repeats. */
unsigned random_part(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return ((unsigned)now.tv_nsec * 2654435761u ^ (unsigned)getpid() * 40503u) & 0xffffff;
}

/* Makes the folder and those above it, for this user alone. 0, or an error number. */
int tree_make(const char *path)
{
    char part[PATH_MAX];
    size_t length = strlen(path);
    if (length >= sizeof part)
        return ENAMETOOLONG;
    for (size_t at = 1; at <= length; at++) {
        if (path[at] != '/' && path[at] != 0)
            continue;
        memcpy(part, path, at);
        part[at] = 0;
        if (mkdir(part, 0700) != 0 && errno != EEXIST) {
            int error = errno;
            if (access(part, F_OK) != 0)
                return error;
        }
    }
    return 0;
}

static bool remove_once(int parent, const char *name)
{
    if (unlinkat(parent, name, 0) == 0 || errno == ENOENT)
        return true;
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *folder = fd < 0 ? NULL : fdopendir(fd);
    for (struct dirent *entry; folder && (entry = readdir(folder));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            remove_once(fd, entry->d_name);
    if (folder)
        closedir(folder);
    return unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT;
}

/* Removes a file or a folder with all that is in it. Tried for a while: a process that is just ending may still write. */
bool tree_remove(int parent, const char *name)
{
    for (int attempt = 0; attempt < 50; attempt++) {
        if (remove_once(parent, name))
            return true;
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    return false;
}

/* A kept home is locked through the file `.lock` in it. */
static bool is_home_in_use(int home)
{
    int fd = openat(home, ".lock", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    bool used = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0;
    if (fd >= 0)
        close(fd);
    return used;
}

/* Removes a folder of this user's that no living process has locked. */
bool tree_remove_unused(int parent, const char *name)
{
    struct stat status;
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool unused = fstat(fd, &status) == 0 && status.st_uid == geteuid() && flock(fd, LOCK_EX | LOCK_NB) == 0;
    bool removed = unused && !is_home_in_use(fd) && tree_remove(parent, name);
    close(fd);
    return removed;
}

static bool is_suffixed(const char *name, const char *prefix, const char *suffix)
{
    size_t length = strlen(name), tail = strlen(suffix);
    return strncmp(name, prefix, strlen(prefix)) == 0 && length > tail && strcmp(name + length - tail, suffix) == 0;
}

/* What killed processes have left behind: unused folders that are named so. Only for folders that are this program's alone. */
void tree_sweep(int parent, const char *prefix, const char *suffix)
{
    int fd = openat(parent, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = fd < 0 ? NULL : fdopendir(fd);
    for (struct dirent *entry; folder && (entry = readdir(folder));)
        if (is_suffixed(entry->d_name, prefix, suffix))
            tree_remove_unused(parent, entry->d_name);
    if (folder)
        closedir(folder);
}

static bool is_name_of_home(const char *name)
{
    return strncmp(name, "_MEI", 4) == 0 && strspn(name + 4, "0123456789abcdef") == 14 && name[18] == 0;
}

/* Whether the folder holds nothing but a home, or nothing at all. */
static bool holds_only_a_home(int parent, const char *name)
{
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *folder = fd < 0 ? NULL : fdopendir(fd);
    bool only = folder != NULL;
    for (struct dirent *entry; only && (entry = readdir(folder));)
        only = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 || is_name_of_home(entry->d_name);
    if (folder)
        closedir(folder);
    return only;
}

/* Whether the name is exactly `mkllm-<process number>-<six hexadecimal digits>`. */
static bool is_name_of_temporary(const char *name)
{
    if (strncmp(name, "mkllm-", 6) != 0)
        return false;
    size_t digits = strspn(name + 6, "0123456789");
    const char *rest = name + 6 + digits;
    return digits > 0 && rest[0] == '-' && strspn(rest + 1, "0123456789abcdef") == 6 && rest[7] == 0;
}

/* Temporary folders of killed launches, in a folder that others use too: nothing is touched that this program has not surely
 * made itself, by its exact name and by what it holds. */
void tree_sweep_temporary(int parent)
{
    int fd = openat(parent, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = fd < 0 ? NULL : fdopendir(fd);
    for (struct dirent *entry; folder && (entry = readdir(folder));)
        if (is_name_of_temporary(entry->d_name) && holds_only_a_home(parent, entry->d_name))
            tree_remove_unused(parent, entry->d_name);
    if (folder)
        closedir(folder);
}

static int create_once(int parent, const char *name)
{
    struct stat status;
    if (mkdirat(parent, name, 0700) != 0)
        return -1;
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -1;
    bool swept = flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK; /* some file systems have no locks at all */
    if (!swept && fstat(fd, &status) == 0 && status.st_nlink > 0)
        return fd;
    close(fd);
    errno = ENOENT;
    return -1;
}

/* Makes a new folder for this user alone and locks it; `name` becomes prefix, random part and suffix. Its descriptor, or -1
 * and errno. Tried again when a launch beside this one sweeps it away before it is locked. */
int tree_create(int parent, char name[NAME_MAX], const char *prefix, const char *suffix)
{
    int fd = -1;
    errno = ENOENT;
    for (int attempt = 0; attempt < 5 && fd < 0 && (errno == ENOENT || errno == EEXIST); attempt++) {
        snprintf(name, NAME_MAX, "%s%06x%s", prefix, random_part(), suffix);
        fd = create_once(parent, name);
    }
    return fd;
}
