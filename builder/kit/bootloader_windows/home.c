/* The home. One that is kept is made for each kit and shared by all its artifacts: it is filled under another name and renamed, so
 * that it is whole or not there, and each process that uses it holds a shared lock on its file `.lock`; who removes old homes must
 * first get that lock alone. A temporary one belongs to one process, which has its `.lock` open and shares it with nobody. */

#include <stdio.h>
#include <string.h>

#include "entry.h"

static const uint64_t LOCKED_BYTE = 1ull << 62; /* as the runtime does: a byte behind the end, since a locked one cannot be read */

/* `.complete` is written last; it says of which PKG the files are, and the checksum of their part of it. */
static const char note[] = "mkllm/1 pkg=%08x files=%08x\n";
static const wchar_t complete[] = L".complete", lock[] = L".lock";

static bool has_all_files(const wchar_t *home, const struct archive *archive)
{
    wchar_t path[LONGEST_PATH];
    for (size_t i = 0; i < archive->count; i++)
        if (!fill_path(path, home, &archive->items[i]) || tree_size(path) != (int64_t)archive->items[i].size)
            return false;
    return true;
}

static bool is_complete(const wchar_t *home, const struct archive *archive, uint32_t *files_crc)
{
    wchar_t path[LONGEST_PATH];
    char text[64] = "", expected[64];
    DWORD got = 0;
    HANDLE file = INVALID_HANDLE_VALUE;
    if (path_join(path, home, complete))
        file = tree_open(path, GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_DELETE, OPEN_EXISTING);
    if (file == INVALID_HANDLE_VALUE)
        return false;
    bool read = ReadFile(file, text, sizeof text - 1, &got, NULL);
    CloseHandle(file);
    unsigned pkg = 0, files = 0;
    bool known = read && sscanf(text, note, &pkg, &files) == 2;
    snprintf(expected, sizeof expected, note, archive->crc, files);
    *files_crc = files;
    return known && strcmp(text, expected) == 0 && has_all_files(home, archive);
}

static DWORD write_note(const wchar_t *home, const struct archive *archive, uint32_t files_crc)
{
    wchar_t path[LONGEST_PATH];
    char text[64];
    DWORD written = 0;
    snprintf(text, sizeof text, note, archive->crc, files_crc);
    if (!path_join(path, home, complete))
        return ERROR_FILENAME_EXCED_RANGE;
    HANDLE file = tree_open(path, GENERIC_WRITE, 0, CREATE_NEW);
    if (file == INVALID_HANDLE_VALUE)
        return GetLastError();
    bool whole = WriteFile(file, text, (DWORD)strlen(text), &written, NULL) && written == strlen(text) && FlushFileBuffers(file);
    DWORD error = whole ? 0 : GetLastError();
    CloseHandle(file);
    return error;
}

/* Locks the home for use as long as `*held` is open. False when it is being removed. File systems without locks do as well, and
 * so does a home that may only be read, or is not there. */
static bool lock_home(const wchar_t *home, HANDLE *held)
{
    wchar_t path[LONGEST_PATH];
    OVERLAPPED place = {.Offset = (DWORD)LOCKED_BYTE, .OffsetHigh = (DWORD)(LOCKED_BYTE >> 32)};
    DWORD shared = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;
    *held = path_join(path, home, lock) ? tree_open(path, GENERIC_READ | GENERIC_WRITE, shared, OPEN_ALWAYS)
                                        : INVALID_HANDLE_VALUE;
    return *held == INVALID_HANDLE_VALUE || LockFileEx(*held, LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &place) ||
           GetLastError() != ERROR_LOCK_VIOLATION;
}

/* Whether the home is there and whole; then it is locked, and the PKG checked. */
static bool use_home(const wchar_t *home, const struct archive *archive)
{
    uint32_t files_crc;
    HANDLE held;
    bool whole = lock_home(home, &held) && is_complete(home, archive, &files_crc);
    if (whole)
        archive_check(archive, &files_crc); /* the lock stays open until the program ends */
    else if (held != INVALID_HANDLE_VALUE)
        CloseHandle(held);
    return whole;
}

/* Gives the home its name. One that is there and is not whole is put aside; it cannot be when a program uses it. */
static DWORD install(const wchar_t *partial, const wchar_t *home, const struct archive *archive)
{
    wchar_t old[LONGEST_PATH];
    uint32_t files_crc;
    DWORD error = tree_rename(partial, home);
    if (error != ERROR_ALREADY_EXISTS || is_complete(home, archive, &files_crc))
        return error;
    swprintf(old, LONGEST_PATH, L"%ls.%06x.old", home, random_part());
    error = tree_rename(home, old);
    if (error)
        return error;
    tree_remove(old);
    return tree_rename(partial, home);
}

/* Extracts into a folder of another name, then renames it. */
static DWORD create_home(const wchar_t *home, const struct archive *archive)
{
    wchar_t partial[LONGEST_PATH];
    uint32_t files_crc = archive_check(archive, NULL);
    swprintf(partial, LONGEST_PATH, L"%ls.%06x.partial", home, random_part());
    interrupts_hold();
    DWORD error = tree_make(partial);
    if (!error)
        error = fill_files(partial, archive, true);
    if (!error)
        error = write_note(partial, archive, files_crc);
    if (!error)
        error = install(partial, home, archive);
    if (error)
        tree_remove(partial);
    interrupts_release(); /* and ends here if one came meanwhile */
    return error == ERROR_ALREADY_EXISTS ? 0 : error; /* another launch was quicker */
}

static bool is_left_over(const wchar_t *path, const wchar_t *name, bool old)
{
    const wchar_t *dot = wcsrchr(name, L'.');
    (void)path;
    return old && dot && (wcscmp(dot, L".partial") == 0 || wcscmp(dot, L".old") == 0);
}

/* Finds the kit's home at this place, or makes it. False with the reason kept when the place does not serve. */
bool cache_home(struct home *home, struct place *place, const struct archive *archive, const char *kit, uint64_t room)
{
    wchar_t name[32];
    swprintf(name, sizeof name / sizeof *name, L"_MEI%.14hs", kit);
    home->kind = L"cache";
    if (!path_join(home->path, place->path, name))
        return place_refused(place, ERROR_FILENAME_EXCED_RANGE);
    if (use_home(home->path, archive))
        return true;
    tree_sweep(place->path, L"_MEI*", is_left_over);
    if (!place_has_room(place, room))
        return false;
    DWORD error = create_home(home->path, archive);
    return error ? place_refused(place, error) : use_home(home->path, archive) || place_refused(place, ERROR_BUSY);
}

static bool is_unused(const wchar_t *path, const wchar_t *name, bool old)
{
    wchar_t file[LONGEST_PATH];
    (void)name;
    if (!is_temporary(path) || !path_join(file, path, lock))
        return false;
    HANDLE alone = tree_open(file, GENERIC_READ | GENERIC_WRITE, 0, OPEN_EXISTING);
    if (alone == INVALID_HANDLE_VALUE) {
        if (old && GetLastError() == ERROR_FILE_NOT_FOUND)
            RemoveDirectoryW(path); /* ended before it made one, so it is empty; what is not is somebody else's */
        return false;
    }
    CloseHandle(alone);
    return true;
}

/* The folder, and in it `.lock`, open as long as this process lives, shared with nobody. */
static DWORD make_own(const wchar_t *home)
{
    wchar_t path[LONGEST_PATH];
    DWORD error = tree_make(home);
    if (!error && !path_join(path, home, lock))
        error = ERROR_FILENAME_EXCED_RANGE;
    if (!error && tree_open(path, GENERIC_READ | GENERIC_WRITE, 0, CREATE_NEW) == INVALID_HANDLE_VALUE)
        error = GetLastError();
    return error;
}

/* Makes a home for this process alone, which its guardian removes. False with the reason kept when the place does not serve. */
bool temporary_home(struct home *home, struct place *place, const struct archive *archive, const wchar_t *program,
                    uint64_t room)
{
    wchar_t name[64];
    DWORD error;
    tree_sweep(place->path, L"mkllm-*", is_unused);
    if (!place_has_room(place, room))
        return false;
    archive_check(archive, NULL);
    swprintf(name, sizeof name / sizeof *name, L"mkllm-%lu-%06x", GetCurrentProcessId(), random_part());
    home->kind = L"temporary";
    if (!path_join(home->path, place->path, name))
        return place_refused(place, ERROR_FILENAME_EXCED_RANGE);
    interrupts_hold();
    error = make_own(home->path);
    if (!error) {
        guardian_start(program, home->path);
        error = fill_files(home->path, archive, false);
    }
    interrupts_release(); /* what is there then is the guardian's to remove */
    return !error || place_refused(place, error);
}
