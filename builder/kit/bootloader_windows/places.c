/* Where the runtime's files may lie: the places, in order, and why one does not serve. */

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "entry.h"

enum { LONGEST_PLACE = 160 }; /* a home's name is 20 letters; what lies in it is loaded by functions that take 259 */

static const wchar_t *variable(const wchar_t *name, wchar_t value[LONGEST_PATH])
{
    DWORD length = GetEnvironmentVariableW(name, value, LONGEST_PATH);
    return length > 0 && length < LONGEST_PATH ? value : NULL;
}

static void add(struct places *places, enum kind kind, const wchar_t *folder, const wchar_t *below)
{
    struct place *place = &places->list[places->count];
    if (!folder || !path_whole(place->path, folder) || (*below && !path_join(place->path, place->path, below)))
        return;
    place->kind = kind;
    place->reason[0] = 0;
    places->count++;
}

/* Only what the user has chosen may be relative; a variable of Windows counts as the whole path that it should be. */
static void add_known(struct places *places, enum kind kind, const wchar_t *folder, const wchar_t *below)
{
    if (folder && path_is_whole(folder))
        add(places, kind, folder, below);
}

void places_find(struct places *places, const wchar_t *file)
{
    wchar_t value[LONGEST_PATH];
    places->count = 0;
    add(places, CACHE, variable(L"MKLLM_RUNTIME_DIR", value), L"");
    add_known(places, CACHE, variable(L"LOCALAPPDATA", value), L"mkllm\\runtime");
    const wchar_t *temporary = variable(L"TEMP", value);
    add_known(places, TEMPORARY, temporary ? temporary : variable(L"TMP", value), L"");
    wcscpy(value, file);
    wchar_t *slash = wcsrchr(value, L'\\');
    if (slash) {
        slash[slash > value && slash[-1] == L':'] = 0; /* `C:\` keeps its backslash */
        add_known(places, TEMPORARY, value, L"");
    }
}

bool place_refused_because(struct place *place, const char *reason)
{
    if (!place->reason[0]) /* the first reason is the one to be mended */
        snprintf(place->reason, sizeof place->reason, "%s", reason);
    return false;
}

/* What Windows says of an error, without the full stop and the line's end. */
static void describe(DWORD error, char *text, size_t size)
{
    wchar_t said[128];
    DWORD flags = FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS;
    DWORD length = FormatMessageW(flags, NULL, error, 0, said, sizeof said / sizeof *said, NULL);
    while (length && wcschr(L". \r\n", said[length - 1]))
        said[--length] = 0;
    if (!length || !text_utf8(text, size, said))
        snprintf(text, size, "error %lu of Windows", error);
}

bool place_refused(struct place *place, DWORD error)
{
    char text[sizeof place->reason];
    if (error == ERROR_DISK_FULL || error == ERROR_HANDLE_DISK_FULL || error == ERROR_DISK_QUOTA_EXCEEDED)
        return place_refused_because(place, "no room");
    if (error == ERROR_ACCESS_DENIED || error == ERROR_WRITE_PROTECT)
        return place_refused_because(place, "not allowed");
    describe(error, text, sizeof text);
    return place_refused_because(place, text);
}

/* Makes the folder if it is a cache; whether it may hold a home. */
bool place_open(struct place *place)
{
    char text[sizeof place->reason];
    snprintf(text, sizeof text, "its name is longer than %d letters", LONGEST_PLACE);
    if (wcslen(place->path) > LONGEST_PLACE)
        return place_refused_because(place, text);
    DWORD error = place->kind == CACHE ? tree_make(place->path) : 0;
    return !error || place_refused(place, error);
}

bool place_has_room(struct place *place, uint64_t room)
{
    ULARGE_INTEGER free;
    if (!GetDiskFreeSpaceExW(place->path, &free, NULL, NULL)) /* some file systems do not tell */
        return true;
    return free.QuadPart >= room || place_refused(place, ERROR_DISK_FULL);
}

static size_t append(char *text, size_t used, size_t size, const char *format, ...) __attribute__((format(printf, 4, 5)));

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
    static char text[6000], path[LONGEST_PATH];
    size_t used = 0;
    for (size_t i = 0; i < places->count; i++) {
        if (!text_utf8(path, sizeof path, places->list[i].path))
            strcpy(path, "a path that is no text");
        used = append(text, used, sizeof text, "%s%s: %s", i ? ", " : "", path, places->list[i].reason);
    }
    fail(EXIT_NO_PLACE,
         "there is no place for the runtime's files (%s): set MKLLM_RUNTIME_DIR to a folder that you may write to, with %llu MB "
         "free",
         text, (unsigned long long)(room / 1000000 + 1));
}
