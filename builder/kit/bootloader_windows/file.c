/* The running file: found once, kept open, read from its handle, so that renaming it meanwhile does no harm. */

#include <fcntl.h>
#include <io.h>
#include <string.h>

#include "entry.h"

enum { HEAD = 4096, HEADER_AT = 60, HEADER_SIZE = 24, WIDE = 0x20b, CERTIFICATES = 112 + 4 * 8, STEP = 8 };

static _Noreturn void unreadable(DWORD error)
{
    fail(EXIT_DAMAGED, "this program cannot read its own file (error %lu of Windows): copy it to a disk of this machine",
         error);
}

static uint32_t le32(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* A signature lies behind all else: a table of certificates at a multiple of 8, which the header names. Returns where what it was
 * put behind ended: the end record's last byte is a line feed, what follows it are zeros. */
static uint64_t end_before_signature(const struct file *file)
{
    unsigned char head[HEAD], before[STEP];
    if (file->size < HEAD || !file_read(file, 0, head, HEAD))
        return file->size;
    uint32_t header = le32(head + HEADER_AT);
    if (header > HEAD - HEADER_SIZE - CERTIFICATES - 8 || (le32(head + header + HEADER_SIZE) & 0xffff) != WIDE)
        return file->size;
    const unsigned char *entry = head + header + HEADER_SIZE + CERTIFICATES;
    uint64_t end = le32(entry), length = le32(entry + 4);
    if (end < STEP || end + length != file->size || !file_read(file, end - STEP, before, STEP))
        return file->size;
    for (size_t i = STEP; i > 0 && before[i - 1] == 0; i--)
        end--;
    return end;
}

/* `path` becomes the file's, as people write it. */
void file_open(struct file *file, wchar_t path[LONGEST_PATH])
{
    wchar_t buffer[LONGEST_PATH];
    DWORD length = GetModuleFileNameW(NULL, path, LONGEST_PATH);
    if (length == 0 || length >= LONGEST_PATH)
        unreadable(length ? ERROR_FILENAME_EXCED_RANGE : GetLastError());
    path_plain(path);
    say_name(path);
    HANDLE handle = tree_open(path, GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, OPEN_EXISTING);
    LARGE_INTEGER size;
    if (handle == INVALID_HANDLE_VALUE || !GetFileSizeEx(handle, &size))
        unreadable(GetLastError());
    /* with its prefix, that is what the loader opens again */
    if (!text_utf8(file->path, sizeof file->path, path_long(buffer, path)))
        unreadable(ERROR_FILENAME_EXCED_RANGE);
    file->fd = _open_osfhandle((intptr_t)handle, _O_RDONLY | _O_BINARY);
    file->size = (uint64_t)size.QuadPart;
    file->size = end_before_signature(file);
    file->elevated = false;
}

/* False when the file ends before, or cannot be read. */
bool file_read(const struct file *file, uint64_t offset, void *buffer, size_t length)
{
    char *next = buffer;
    while (length) {
        OVERLAPPED place = {.Offset = (DWORD)offset, .OffsetHigh = (DWORD)(offset >> 32)};
        DWORD got = 0, most = length < 1 << 30 ? (DWORD)length : 1 << 30;
        if (!ReadFile((HANDLE)_get_osfhandle(file->fd), next, most, &got, &place) || got == 0)
            return false;
        next += got;
        offset += got;
        length -= got;
    }
    return true;
}
