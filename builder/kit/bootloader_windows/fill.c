/* The runtime's files, written into a folder. */

#include <errno.h>
#include <fcntl.h>
#include <io.h>
#include <string.h>

#include "entry.h"

/* Where an item of the archive lies in the home. False for a name that would lie elsewhere, or would be too long. */
bool fill_path(wchar_t path[LONGEST_PATH], const wchar_t *home, const struct item *item)
{
    wchar_t name[MAX_PATH];
    if (!MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, item->name, -1, name, MAX_PATH))
        return false;
    for (wchar_t *at = name; *at; at++)
        if (*at == L'/')
            *at = L'\\';
    return *name != L'\\' && !wcschr(name, L':') && !wcsstr(name, L"..") && path_join(path, home, name);
}

static DWORD make_parents(const wchar_t *path)
{
    wchar_t folder[LONGEST_PATH];
    wcscpy(folder, path);
    *wcsrchr(folder, L'\\') = 0;
    return tree_make(folder);
}

/* What the C library made of Windows' error. */
static DWORD error_of(int number)
{
    return number == ENOSPC ? ERROR_DISK_FULL : number == EACCES ? ERROR_ACCESS_DENIED : ERROR_WRITE_FAULT;
}

/* `lasting`: on the disk, too; sizes and names survive a power cut without it, contents do not. */
static DWORD write_file(const wchar_t *path, const struct archive *archive, const struct item *item, bool lasting)
{
    HANDLE handle = tree_open(path, GENERIC_WRITE, FILE_SHARE_READ, CREATE_NEW);
    if (handle == INVALID_HANDLE_VALUE)
        return GetLastError();
    int fd = _open_osfhandle((intptr_t)handle, _O_BINARY);
    int error = archive_extract(archive, item, fd);
    if (!error && lasting && !FlushFileBuffers(handle))
        error = EIO;
    return _close(fd) != 0 || error ? error_of(error) : 0;
}

/* ERROR_CANCELLED when somebody wants the program to end. What is there then is the caller's to remove. */
DWORD fill_files(const wchar_t *home, const struct archive *archive, bool lasting)
{
    wchar_t path[LONGEST_PATH];
    for (size_t i = 0; i < archive->count; i++) {
        const struct item *item = &archive->items[i];
        if (interrupts_pending())
            return ERROR_CANCELLED;
        DWORD error = fill_path(path, home, item) ? make_parents(path) : ERROR_INVALID_NAME;
        if (!error)
            error = write_file(path, archive, item, lasting);
        if (error)
            return error;
    }
    return 0;
}
