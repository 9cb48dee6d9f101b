/* A home that is kept: one for each kit, shared by all its artifacts, locked (shared) by each process that uses it. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "entry.h"

enum { NAME = 19, DAY = 24 * 60 * 60, KEPT_DAYS = 90 };

/* `.complete` is written last; it says of which PKG the files are, and the checksum of their part of it. */
static const char complete[] = ".complete", note[] = "mkllm/1 pkg=%08x files=%08x\n";

static bool has_all_files(int home, const struct archive *archive)
{
    struct stat status;
    for (size_t i = 0; i < archive->count; i++) {
        const struct item *item = &archive->items[i];
        if (fstatat(home, item->name, &status, AT_SYMLINK_NOFOLLOW) != 0)
            return false;
        if (item->type != 'n' && (!S_ISREG(status.st_mode) || status.st_size != (off_t)item->size))
            return false;
    }
    return true;
}

static void mark_as_used(int fd)
{
    struct stat status;
    if (fstat(fd, &status) == 0 && status.st_mtime + DAY < time(NULL))
        futimens(fd, NULL);
}

static bool is_complete(int home, const struct archive *archive, uint32_t *files_crc)
{
    char text[64] = "", expected[64];
    int fd = openat(home, complete, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t got = read(fd, text, sizeof text - 1);
    unsigned pkg = 0, files = 0;
    bool known = got > 0 && sscanf(text, note, &pkg, &files) == 2;
    snprintf(expected, sizeof expected, note, archive->crc, files);
    known = known && strcmp(text, expected) == 0 && has_all_files(home, archive);
    if (known)
        mark_as_used(fd);
    close(fd);
    *files_crc = files;
    return known;
}

/* The lock is only ever refused while the folder is being removed. */
static bool lock_shared(int home)
{
    struct stat status;
    for (int attempt = 0; attempt < 100; attempt++) {
        if (flock(home, LOCK_SH | LOCK_NB) == 0 || errno != EWOULDBLOCK)
            return fstat(home, &status) == 0 && status.st_nlink > 0;
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    return false;
}

/* The home that is there: its descriptor; -1 without one; -2 with the reason kept when it must not be used. */
static int open_home(struct place *place, int base, const char *name)
{
    struct stat status;
    int home = openat(base, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (home < 0 && errno == ENOENT)
        return -1;
    if (home < 0 || fstat(home, &status) != 0) {
        place_refused_because(place, "its folder for the runtime is none");
        return -2;
    }
    if (status.st_uid == geteuid() && !(status.st_mode & (S_IWGRP | S_IWOTH)))
        return home;
    close(home);
    place_refused_because(place, "its folder for the runtime belongs to another user, or others may write to it");
    return -2;
}

static int write_note(int home, const struct archive *archive, uint32_t files_crc)
{
    int fd = openat(home, complete, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno;
    int written = dprintf(fd, note, archive->crc, files_crc);
    return close(fd) == 0 && written > 0 ? 0 : ENOSPC;
}

/* Kits that no artifact has used for long. */
static void forget_old(int base, const char *own)
{
    tree_sweep(base, "_MEI", ".partial");
    tree_sweep(base, "_MEI", ".old");
    tree_sweep_idle(base, "_MEI", NAME - 1, own, complete, time(NULL) - (time_t)KEPT_DAYS * DAY);
}

static int install(int base, const char *partial, const char *name)
{
    char old[64];
    if (renameat(base, partial, base, name) == 0)
        return 0;
    if (errno != EEXIST && errno != ENOTEMPTY)
        return errno;
    snprintf(old, sizeof old, "%s.%06x.old", name, random_part());
    if (renameat(base, name, base, old) == 0)
        tree_remove_unused(base, old);
    return renameat(base, partial, base, name) == 0 ? 0 : errno;
}

/* Extracts into a folder of another name, then renames it: a home is whole or not there. */
static int create_home(int base, const char *name, const struct archive *archive)
{
    char partial[NAME_MAX], prefix[32];
    uint32_t files_crc = archive_check(archive, NULL);
    snprintf(prefix, sizeof prefix, "%s.", name);
    signals_hold();
    int home = tree_create(base, partial, prefix, ".partial");
    int error = home < 0 ? errno : fill_files(home, archive, signals_pending);
    if (!error)
        error = write_note(home, archive, files_crc);
    if (!error)
        error = install(base, partial, name);
    if (!error)
        flock(home, LOCK_SH);
    else if (home >= 0)
        tree_remove(base, partial);
    signals_release(); /* and ends here if one came meanwhile */
    errno = error;
    return error ? -1 : home;
}

/* Finds the kit's home at this place, or makes it. False with the reason kept when the place does not serve. */
bool cache_home(struct home *home, struct place *place, const struct archive *archive, const char *kit, uint64_t room)
{
    char name[NAME];
    uint32_t files_crc;
    int base = place_open(place, true);
    if (base < 0)
        return false;
    snprintf(name, sizeof name, "_MEI%.14s", kit);
    int folder = open_home(place, base, name);
    if (folder >= 0 && lock_shared(folder) && is_complete(folder, archive, &files_crc)) {
        archive_check(archive, &files_crc);
    } else if (folder == -2 || !place_has_room(place, base, room)) {
        close(base);
        return false;
    } else {
        if (folder >= 0)
            close(folder);
        forget_old(base, name);
        folder = create_home(base, name, archive);
        if (folder < 0) {
            place_refused(place, errno);
            close(base);
            return false;
        }
    }
    close(base); /* the home's own descriptor stays: it is the lock */
    snprintf(home->path, sizeof home->path, "%s/%s", place->path, name);
    home->kind = "cache";
    home->guardian = -1;
    return true;
}
