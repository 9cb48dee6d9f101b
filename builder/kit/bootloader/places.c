/* Where the runtime's files may lie: the places, in order, and why one does not serve. */

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "entry.h"

enum { OVERFLOW_UID = 65534 }; /* how a user namespace shows an owner that it does not know, such as the host's root */

static void add(struct places *places, enum kind kind, const char *path, const char *below)
{
    struct place *place = &places->list[places->count];
    if (!path || *path != '/')
        return;
    if (snprintf(place->path, sizeof place->path, "%s%s", path, below) >= (int)sizeof place->path - NAME_MAX * 2)
        return;
    for (size_t i = 0; i < places->count; i++)
        if (strcmp(places->list[i].path, place->path) == 0)
            return;
    place->kind = kind;
    place->reason[0] = 0;
    places->count++;
}

/* As Python decodes it: neither overlong forms nor surrogates. */
static bool is_utf8(const char *text)
{
    const unsigned char *at = (const unsigned char *)text;
    while (*at) {
        unsigned char lead = *at++;
        int more = lead < 0x80 ? 0 : lead < 0xc2 ? -1 : lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : lead < 0xf5 ? 3 : -1;
        unsigned char least = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
        unsigned char most = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
        if (more < 0)
            return false;
        for (; more > 0; more--, at++, least = 0x80, most = 0xbf)
            if (*at < least || *at > most)
                return false;
    }
    return true;
}

/* What a name says against a place, whatever lies there; NULL when nothing. */
static const char *unfit(const char *path)
{
    if (strchr(path, ':'))
        return "a colon would split it in lists of files";
    return is_utf8(path) ? NULL : "its name is not UTF-8";
}

/* The folder that the user names may be relative, as any argument. */
static void add_chosen(struct places *places, const char *chosen)
{
    char current[PATH_MAX], below[PATH_MAX];
    if (!chosen || !*chosen || *chosen == '/') {
        add(places, CACHE, chosen, "");
        return;
    }
    if (getcwd(current, sizeof current) && snprintf(below, sizeof below, "/%s", chosen) < (int)sizeof below)
        add(places, CACHE, current, below);
}

static bool is_own(const char *path)
{
    struct stat status;
    return path && stat(path, &status) == 0 && status.st_uid == geteuid();
}

/* A cache only below a folder of this user's own: with `sudo` HOME may still be another's, who could never remove it. */
static void add_caches(struct places *places, const struct file *file)
{
    const char *home = getenv("HOME"), *cache = getenv("XDG_CACHE_HOME");
    if (file->elevated)
        return;
    add_chosen(places, getenv("MKLLM_RUNTIME_DIR"));
    if (is_own(cache) || (is_own(home) && cache && access(cache, F_OK) != 0))
        add(places, CACHE, cache, "/mkllm/runtime");
    if (is_own(home))
        add(places, CACHE, home, "/.cache/mkllm/runtime");
}

void places_find(struct places *places, const struct file *file)
{
    char *beside = strdup(file->path), *slash = beside ? strrchr(beside, '/') : NULL;
    places->count = 0;
    add_caches(places, file);
    if (!file->elevated) {
        add(places, TEMPORARY, getenv("XDG_RUNTIME_DIR"), "");
        add(places, TEMPORARY, getenv("TMPDIR"), "");
    }
    add(places, TEMPORARY, "/tmp", "");
    add(places, TEMPORARY, "/var/tmp", "");
    add(places, TEMPORARY, "/dev/shm", "");
    if (slash) {
        slash[slash == beside] = 0;
        add(places, BESIDE, beside, "");
    }
    free(beside);
}

bool place_refused_because(struct place *place, const char *reason)
{
    if (!place->reason[0]) /* the first reason is the one to be mended */
        snprintf(place->reason, sizeof place->reason, "%s", reason);
    return false;
}

bool place_refused(struct place *place, int error)
{
    bool full = error == ENOSPC || error == EDQUOT || error == EFBIG;
    bool forbidden = error == EACCES || error == EPERM;
    return place_refused_because(place, full ? "no room" : forbidden ? "not allowed" : strerror(error));
}

/* Nobody but this user and root may change what lies there, or the names in it. Beside the file that rule is waived: who may
 * write there could change the file itself. */
static const char *distrust(const struct place *place, int base)
{
    struct stat status;
    if (place->kind == BESIDE)
        return NULL;
    if (fstat(base, &status) != 0)
        return strerror(errno);
    if ((status.st_mode & (S_IWGRP | S_IWOTH)) && !(status.st_mode & S_ISVTX))
        return "others may write to it";
    bool own = status.st_uid == geteuid() || status.st_uid == 0 || status.st_uid == OVERFLOW_UID;
    return place->kind == CACHE && !own ? "it belongs to another user" : NULL;
}

/* Opens the place's folder, made if it is a cache. Its descriptor, or -1 with the reason kept. */
int place_open(struct place *place, bool executable)
{
    struct statvfs space;
    const char *reason = unfit(place->path);
    if (reason) {
        place_refused_because(place, reason);
        return -1;
    }
    int error = place->kind == CACHE ? tree_make(place->path) : 0;
    int base = error ? -1 : open(place->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (base < 0) {
        place_refused(place, error ? error : errno);
        return -1;
    }
    reason = distrust(place, base);
    if (!reason && executable && fstatvfs(base, &space) == 0 && (space.f_flag & ST_NOEXEC))
        reason = "nothing may be executed there";
    if (!reason)
        return base;
    place_refused_because(place, reason);
    close(base);
    return -1;
}

bool place_has_room(struct place *place, int base, uint64_t room)
{
    struct statvfs space;
    if (fstatvfs(base, &space) != 0 || space.f_blocks == 0) /* some file systems do not tell */
        return true;
    return (uint64_t)space.f_bavail * space.f_frsize >= room || place_refused(place, ENOSPC);
}

static size_t append(char *text, size_t used, size_t size, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int more = vsnprintf(text + used, size - used, format, arguments);
    va_end(arguments);
    return more < 0 || used + (size_t)more >= size ? size - 1 : used + (size_t)more;
}

_Noreturn void places_exhausted(const struct places *places, uint64_t room)
{
    char text[6000] = "";
    size_t used = 0;
    for (size_t i = 0; i < places->count; i++)
        used = append(text, used, sizeof text, "%s%s: %s", i ? ", " : "", places->list[i].path,
                      places->list[i].reason);
    fail(EXIT_NO_PLACE,
         "there is no place for the runtime's files (%s): set MKLLM_RUNTIME_DIR to a folder that you may write to and run "
         "programs from, with %llu MB free",
         text, (unsigned long long)(room / 1000000 + 1));
}
