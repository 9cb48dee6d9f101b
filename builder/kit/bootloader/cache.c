/* A home that is kept: one for each kit, shared by all its artifacts. Each process that uses it holds a shared lock (flock) on
 * its file `.lock`; who removes old homes must first get that lock alone. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "entry.h"

enum { NAME = 19 };
enum found { USABLE, ABSENT, FORBIDDEN };

/* `.complete` is written last; it says of which PKG the files are, and the checksum of their part of it. */
static const char complete[] = ".complete", note[] = "mkllm/1 pkg=%08x files=%08x\n", lock[] = ".lock";

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

static bool is_complete(int home, const struct archive *archive, uint32_t *files_crc)
{
    char text[64] = "", expected[64];
    int fd = openat(home, complete, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t got = read(fd, text, sizeof text - 1);
    close(fd);
    unsigned pkg = 0, files = 0;
    bool known = got > 0 && sscanf(text, note, &pkg, &files) == 2;
    snprintf(expected, sizeof expected, note, archive->crc, files);
    *files_crc = files;
    return known && strcmp(text, expected) == 0 && has_all_files(home, archive);
}

/* Locks the home for use as long as `*held` is open. False when it is being removed. File systems without locks do as well. */
static bool lock_home(int base, const char *name, int home, int *held)
{
    struct stat here, there;
    *held = openat(home, lock, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    bool free = *held < 0 || flock(*held, LOCK_SH | LOCK_NB) == 0 || errno != EWOULDBLOCK;
    return free && fstat(home, &here) == 0 && fstatat(base, name, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
           here.st_ino == there.st_ino;
}

/* Opens the home that is there, if it may be trusted. */
static enum found open_home(struct place *place, int base, const char *name, int *home)
{
    struct stat status;
    *home = openat(base, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (*home < 0 && errno == ENOENT)
        return ABSENT;
    if (*home >= 0 && fstat(*home, &status) == 0 && status.st_uid == geteuid() &&
        !(status.st_mode & (S_IWGRP | S_IWOTH)))
        return USABLE;
    if (*home >= 0)
        close(*home);
    place_refused_because(place, "what lies there under the runtime's name is not this user's own folder");
    return FORBIDDEN;
}

/* Whether the home is there and whole; then it is locked, and the PKG checked. */
static enum found use_home(struct place *place, int base, const char *name, const struct archive *archive)
{
    uint32_t files_crc;
    int home, held;
    enum found found = open_home(place, base, name, &home);
    if (found != USABLE)
        return found;
    bool whole = lock_home(base, name, home, &held) && is_complete(home, archive, &files_crc);
    close(home);
    if (whole)
        archive_check(archive, &files_crc); /* the lock stays open until the program ends */
    else if (held >= 0)
        close(held);
    return whole ? USABLE : ABSENT;
}

static int write_note(int home, const struct archive *archive, uint32_t files_crc)
{
    int fd = openat(home, complete, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno;
    int written = dprintf(fd, note, archive->crc, files_crc);
    return close(fd) == 0 && written > 0 ? 0 : ENOSPC;
}

static bool is_whole(struct place *place, int base, const char *name, const struct archive *archive)
{
    uint32_t files_crc;
    int home;
    if (open_home(place, base, name, &home) != USABLE)
        return false;
    bool whole = is_complete(home, archive, &files_crc);
    close(home);
    return whole;
}

/* Gives the home its name. EEXIST when another launch was quicker; one that is not whole is put aside. */
static int install(struct place *place, int base, const char *partial, const char *name, const struct archive *archive)
{
    char old[64];
    if (renameat(base, partial, base, name) == 0)
        return 0;
    if (errno != EEXIST && errno != ENOTEMPTY)
        return errno;
    if (is_whole(place, base, name, archive))
        return EEXIST;
    snprintf(old, sizeof old, "%s.%06x.old", name, random_part());
    if (renameat(base, name, base, old) == 0)
        tree_remove_unused(base, old);
    return renameat(base, partial, base, name) == 0 ? 0 : errno;
}

/* Extracts into a folder of another name, then renames it: a home is whole or not there. 0, or an error number. */
static int create_home(struct place *place, int base, const char *name, const struct archive *archive)
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
        error = install(place, base, partial, name, archive);
    if (error && home >= 0)
        tree_remove(base, partial);
    if (home >= 0)
        close(home);
    signals_release(); /* and ends here if one came meanwhile */
    return error == EEXIST ? 0 : error;
}

static bool find_or_create(struct place *place, int base, const char *name, const struct archive *archive, uint64_t room)
{
    enum found found = use_home(place, base, name, archive);
    if (found == ABSENT) {
        tree_sweep(base, "_MEI", ".partial");
        tree_sweep(base, "_MEI", ".old");
        int error = place_has_room(place, base, room) ? create_home(place, base, name, archive) : ENOSPC;
        found = error ? FORBIDDEN : use_home(place, base, name, archive);
        if (found != USABLE)
            place_refused(place, error ? error : EAGAIN);
    }
    return found == USABLE;
}

/* Finds the kit's home at this place, or makes it. False with the reason kept when the place does not serve. */
bool cache_home(struct home *home, struct place *place, const struct archive *archive, const char *kit, uint64_t room)
{
    char name[NAME];
    int base = place_open(place, true);
    snprintf(name, sizeof name, "_MEI%.14s", kit);
    bool served = base >= 0 && find_or_create(place, base, name, archive, room);
    if (base >= 0)
        close(base);
    snprintf(home->path, sizeof home->path, "%s/%s", place->path, name);
    home->kind = "cache";
    home->guardian = -1;
    return served;
}
