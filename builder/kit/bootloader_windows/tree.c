/* Folders and the files in them, by names of any length. */

#include "entry.h"

enum { ATTEMPTS = 50, MILLISECONDS = 40 };
static const uint64_t OLD = 600ull * 10000000; /* ten minutes, in Windows' unit of 100 ns */

/* Not a secret, only a name that hardly repeats. */
unsigned random_part(void)
{
    LARGE_INTEGER now;
    QueryPerformanceCounter(&now);
    return ((unsigned)now.QuadPart * 2654435761u ^ (unsigned)GetCurrentProcessId() * 40503u) & 0xffffff;
}

static bool is_folder(const wchar_t *path)
{
    wchar_t buffer[LONGEST_PATH];
    DWORD attributes = GetFileAttributesW(path_long(buffer, path));
    return attributes != INVALID_FILE_ATTRIBUTES && (attributes & FILE_ATTRIBUTE_DIRECTORY);
}

static DWORD make_once(const wchar_t *path)
{
    wchar_t buffer[LONGEST_PATH];
    if (CreateDirectoryW(path_long(buffer, path), NULL))
        return 0;
    DWORD error = GetLastError();
    return is_folder(path) ? 0 : error;
}

/* Makes the folder, and those above it that are not there. */
DWORD tree_make(const wchar_t *path)
{
    wchar_t above[LONGEST_PATH];
    DWORD error = make_once(path);
    if (error != ERROR_PATH_NOT_FOUND)
        return error;
    wcscpy(above, path);
    wchar_t *slash = wcsrchr(above, L'\\');
    if (!slash || slash == above || slash[-1] == L'\\' || slash[-1] == L':')
        return error;
    *slash = 0;
    error = tree_make(above);
    return error ? error : make_once(path);
}

/* In bytes; -1 when there is no such file. */
int64_t tree_size(const wchar_t *path)
{
    wchar_t buffer[LONGEST_PATH];
    WIN32_FILE_ATTRIBUTE_DATA found;
    if (!GetFileAttributesExW(path_long(buffer, path), GetFileExInfoStandard, &found) ||
        (found.dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY))
        return -1;
    return (int64_t)((uint64_t)found.nFileSizeHigh << 32 | found.nFileSizeLow);
}

/* No program that is started from here inherits it. INVALID_HANDLE_VALUE and GetLastError when it fails. */
HANDLE tree_open(const wchar_t *path, DWORD access, DWORD shared, DWORD how)
{
    wchar_t buffer[LONGEST_PATH];
    return CreateFileW(path_long(buffer, path), access, shared, NULL, how, FILE_ATTRIBUTE_NORMAL, NULL);
}

/* What scans new files for viruses has them open for a moment, and what is in a folder then forbids to rename it. */
DWORD tree_rename(const wchar_t *path, const wchar_t *name)
{
    wchar_t from[LONGEST_PATH], to[LONGEST_PATH];
    DWORD error = 0;
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        if (MoveFileExW(path_long(from, path), path_long(to, name), 0))
            return 0;
        error = GetLastError();
        if (is_folder(name) || (error != ERROR_ACCESS_DENIED && error != ERROR_SHARING_VIOLATION))
            break;
        Sleep(MILLISECONDS);
    }
    return is_folder(name) ? ERROR_ALREADY_EXISTS : error;
}

static void each(const wchar_t *folder, const wchar_t *pattern,
                 void (*one)(const wchar_t *path, const WIN32_FIND_DATAW *entry, void *context), void *context)
{
    wchar_t path[LONGEST_PATH], buffer[LONGEST_PATH];
    WIN32_FIND_DATAW entry;
    if (!path_join(path, folder, pattern))
        return;
    HANDLE search = FindFirstFileW(path_long(buffer, path), &entry);
    if (search == INVALID_HANDLE_VALUE)
        return;
    do
        if (wcscmp(entry.cFileName, L".") != 0 && wcscmp(entry.cFileName, L"..") != 0 &&
            path_join(path, folder, entry.cFileName))
            one(path, &entry, context);
    while (FindNextFileW(search, &entry));
    FindClose(search);
}

static void remove_all_in(const wchar_t *folder);

static void remove_one(const wchar_t *path, const WIN32_FIND_DATAW *entry, void *context)
{
    wchar_t buffer[LONGEST_PATH];
    const wchar_t *name = path_long(buffer, path);
    (void)context;
    if (!(entry->dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY)) {
        SetFileAttributesW(name, FILE_ATTRIBUTE_NORMAL);
        DeleteFileW(name);
        return;
    }
    if (!(entry->dwFileAttributes & FILE_ATTRIBUTE_REPARSE_POINT)) /* a link to a folder is removed, not what it leads to */
        remove_all_in(path);
    RemoveDirectoryW(name);
}

static void remove_all_in(const wchar_t *folder)
{
    each(folder, L"*", remove_one, NULL);
}

/* Tried for a while: a process that is just ending may still use what is there. */
bool tree_remove(const wchar_t *path)
{
    wchar_t buffer[LONGEST_PATH];
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        remove_all_in(path);
        if (RemoveDirectoryW(path_long(buffer, path)) || !is_folder(path))
            return true;
        Sleep(MILLISECONDS);
    }
    return false;
}

static void sweep_one(const wchar_t *path, const WIN32_FIND_DATAW *entry, void *context)
{
    FILETIME now;
    GetSystemTimeAsFileTime(&now);
    uint64_t time = (uint64_t)now.dwHighDateTime << 32 | now.dwLowDateTime;
    uint64_t changed = (uint64_t)entry->ftLastWriteTime.dwHighDateTime << 32 | entry->ftLastWriteTime.dwLowDateTime;
    DWORD kind = entry->dwFileAttributes & (FILE_ATTRIBUTE_DIRECTORY | FILE_ATTRIBUTE_REPARSE_POINT);
    if (kind == FILE_ATTRIBUTE_DIRECTORY && ((tree_doomed *)context)(path, entry->cFileName, time > changed + OLD))
        remove_all_in(path), RemoveDirectoryW(path);
}

/* Removes those folders in a folder that `doomed` says of, as far as that can be done. `old`: for ten minutes nothing was put into
 * it or taken out. */
void tree_sweep(const wchar_t *folder, const wchar_t *pattern, tree_doomed *doomed)
{
    each(folder, pattern, sweep_one, (void *)doomed);
}
