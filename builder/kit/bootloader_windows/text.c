/* Text of Windows, which is UTF-16, and paths, which may be longer than 260 letters when they begin with `\\?\`. */

#include "entry.h"

enum { LONG_PATH = 240 }; /* from about here on the old functions refuse a path without that prefix */

static const wchar_t prefix[] = L"\\\\?\\", share[] = L"\\\\?\\UNC\\";

/* False when it is not text, or too long. */
bool text_utf8(char *text, size_t size, const wchar_t *wide)
{
    return WideCharToMultiByte(CP_UTF8, WC_ERR_INVALID_CHARS, wide, -1, text, (int)size, NULL, NULL) > 0;
}

/* Python, too, keeps a path in fewer letters than LONGEST_PATH, so what would be longer is refused. */
bool path_join(wchar_t path[LONGEST_PATH], const wchar_t *folder, const wchar_t *name)
{
    size_t length = wcslen(folder), more = wcslen(name);
    bool separated = length && (folder[length - 1] == L'\\' || folder[length - 1] == L'/');
    if (length + !separated + more >= LONGEST_PATH)
        return false;
    wmemmove(path, folder, length);
    if (!separated)
        path[length++] = L'\\';
    wmemcpy(path + length, name, more + 1);
    return true;
}

/* From the root, with single backslashes. */
bool path_whole(wchar_t path[LONGEST_PATH], const wchar_t *given)
{
    DWORD length = GetFullPathNameW(given, LONGEST_PATH, path, NULL);
    if (length == 0 || length >= LONGEST_PATH)
        return false;
    path_plain(path);
    return true;
}

bool path_is_whole(const wchar_t *path)
{
    bool drive = path[0] && path[1] == L':' && (path[2] == L'\\' || path[2] == L'/');
    return drive || (path[0] == L'\\' && path[1] == L'\\');
}

/* As people write it, without the prefix; a volume without a letter has no other name. */
void path_plain(wchar_t *path)
{
    if (wcsncmp(path, share, wcslen(share)) == 0) /* `\\?\UNC\server\…` is `\\server\…` */
        wmemmove(path + 2, path + wcslen(share), wcslen(path + wcslen(share)) + 1);
    else if (wcsncmp(path, prefix, wcslen(prefix)) == 0 && path[wcslen(prefix)] && path[wcslen(prefix) + 1] == L':')
        wmemmove(path, path + wcslen(prefix), wcslen(path + wcslen(prefix)) + 1);
}

/* The path as Windows takes it, however long: itself, or `buffer`. */
const wchar_t *path_long(wchar_t buffer[LONGEST_PATH], const wchar_t *path)
{
    bool shared = path[0] == L'\\' && path[1] == L'\\';
    const wchar_t *begin = shared ? share : prefix, *rest = shared ? path + 2 : path;
    if (wcslen(path) < LONG_PATH || wcsncmp(path, prefix, wcslen(prefix)) == 0 || wcslen(begin) + wcslen(rest) >= LONGEST_PATH)
        return path;
    wcscpy(buffer, begin);
    wcscat(buffer, rest);
    return buffer;
}
