// Of Windows 10 and later. Text is UTF-8 here and UTF-16 there.
#include "system.h"

#include <algorithm>
#include <cerrno>
#include <memory>
#include <vector>

#define WIN32_LEAN_AND_MEAN
#ifndef NOMINMAX
#define NOMINMAX
#endif
#include <windows.h>

#include <fcntl.h>
#include <io.h>
#include <shellapi.h>

namespace {

const size_t MOST = 1 << 30;  // bytes in one call

std::wstring wide(const std::string & text) {
    std::wstring out((size_t) MultiByteToWideChar(CP_UTF8, 0, text.data(), (int) text.size(), nullptr, 0), L'\0');
    MultiByteToWideChar(CP_UTF8, 0, text.data(), (int) text.size(), out.data(), (int) out.size());
    return out;
}

std::string narrow(const std::wstring & text) {
    const int size = WideCharToMultiByte(CP_UTF8, 0, text.data(), (int) text.size(), nullptr, 0, nullptr, nullptr);
    std::string out((size_t) size, '\0');
    WideCharToMultiByte(CP_UTF8, 0, text.data(), (int) text.size(), out.data(), size, nullptr, nullptr);
    return out;
}

HANDLE handle(int fd) {
    return (HANDLE) _get_osfhandle(fd);
}

// -1, with the reason in errno.
int64_t failed() {
    const DWORD error = GetLastError();
    errno = error == ERROR_DISK_FULL || error == ERROR_HANDLE_DISK_FULL ? ENOSPC
          : error == ERROR_BROKEN_PIPE || error == ERROR_NO_DATA        ? EPIPE
          : error == ERROR_ACCESS_DENIED                                ? EACCES
                                                                        : EIO;
    return -1;
}

OVERLAPPED at(int64_t offset) {
    OVERLAPPED place = {};
    place.Offset     = (DWORD) offset;
    place.OffsetHigh = (DWORD) (offset >> 32);
    return place;
}

struct task {
    void (*work)(int);
    int argument;
};

DWORD WINAPI run(void * given) {
    const std::unique_ptr<task> t((task *) given);
    t->work(t->argument);
    return 0;
}

}  // namespace

const char MKLLM_SEPARATOR = '|';  // the one that no path can have

// llama.cpp repairs arguments itself, but not behind a subcommand. A crash ends the process, with no window to close first.
void mkllm_prepare_process(int & argc, char **& argv) {
    SetErrorMode(SEM_FAILCRITICALERRORS | SEM_NOGPFAULTERRORBOX | SEM_NOOPENFILEERRORBOX);
    _set_abort_behavior(0, _WRITE_ABORT_MSG | _CALL_REPORTFAULT);
    int count = 0;
    wchar_t ** const given = CommandLineToArgvW(GetCommandLineW(), &count);
    if (!given) {
        return;
    }
    static std::vector<std::string> words;
    static std::vector<char *> pointers;
    for (int i = 0; i < count; i++) {
        words.push_back(narrow(given[i]));
    }
    LocalFree(given);
    for (std::string & word : words) {
        pointers.push_back(word.data());
    }
    pointers.push_back(nullptr);
    argc = count;
    argv = pointers.data();
}

void mkllm_binary_output() {
    _setmode(_fileno(stdout), _O_BINARY);
}

std::optional<std::string> mkllm_take_variable(const char * name) {
    const std::wstring  key   = wide(name);
    const wchar_t *     value = _wgetenv(key.c_str());
    std::optional<std::string> copy;
    if (value) {
        copy = narrow(value);
    }
    _wputenv((key + L"=").c_str());
    return copy;
}

int mkllm_start_thread(void (*work)(int), int argument) {
    auto t = std::make_unique<task>(task{ work, argument });
    const HANDLE thread = CreateThread(nullptr, 0, run, t.get(), 0, nullptr);
    if (!thread) {
        return EAGAIN;
    }
    t.release();
    CloseHandle(thread);
    return 0;
}

// llama.cpp would take the path for text in the system's old code page.
std::string mkllm_module_name(const std::string & path) {
    const size_t slash = path.find_last_of("/\\");
    if (slash == std::string::npos) {
        return path;
    }
    SetDllDirectoryW(wide(path.substr(0, slash)).c_str());
    return path.substr(slash + 1);
}

unsigned mkllm_processors_allowed() {
    DWORD_PTR own = 0, all = 0;
    return GetProcessAffinityMask(GetCurrentProcess(), &own, &all) && own ? (unsigned) __builtin_popcountll(own) : 1;
}

uint64_t mkllm_free_memory() {
    MEMORYSTATUSEX status = {};
    status.dwLength       = sizeof status;
    return GlobalMemoryStatusEx(&status) ? std::min<uint64_t>(status.ullAvailPhys, status.ullAvailPageFile) : UINT64_MAX;
}

int mkllm_inherited(long long number) {
    const HANDLE given = (HANDLE) (intptr_t) number;
    if (number <= 0 || !SetHandleInformation(given, HANDLE_FLAG_INHERIT, 0)) {
        return -1;
    }
    HANDLE own = nullptr;  // what is given may be named twice, and each descriptor closes its own
    if (!DuplicateHandle(GetCurrentProcess(), given, GetCurrentProcess(), &own, 0, FALSE, DUPLICATE_SAME_ACCESS)) {
        return -1;
    }
    return _open_osfhandle((intptr_t) own, _O_BINARY);
}

int64_t mkllm_file_size(int fd) {
    LARGE_INTEGER size;
    return GetFileSizeEx(handle(fd), &size) ? (int64_t) size.QuadPart : failed();
}

FILE * mkllm_reopen(int fd, int64_t offset) {
    const HANDLE own = ReOpenFile(handle(fd), GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, 0);
    if (own == INVALID_HANDLE_VALUE) {
        failed();
        return nullptr;
    }
    const int number = _open_osfhandle((intptr_t) own, _O_RDONLY | _O_BINARY);
    FILE * const file = number == -1 ? nullptr : _fdopen(number, "rb");
    if (file && _fseeki64(file, offset, SEEK_SET) == 0) {
        return file;
    }
    if (file) {
        std::fclose(file);
    } else if (number != -1) {
        _close(number);
    } else {
        CloseHandle(own);
    }
    return nullptr;
}

int64_t mkllm_read_at(int fd, char * data, size_t size, int64_t offset) {
    OVERLAPPED place = at(offset);
    DWORD      done  = 0;
    if (ReadFile(handle(fd), data, (DWORD) std::min(size, MOST), &done, &place)) {
        return done;
    }
    return GetLastError() == ERROR_HANDLE_EOF ? 0 : failed();
}

int64_t mkllm_write_at(int fd, const char * data, size_t size, int64_t offset) {
    OVERLAPPED place = at(offset);
    DWORD      done  = 0;
    return WriteFile(handle(fd), data, (DWORD) std::min(size, MOST), &done, &place) ? (int64_t) done : failed();
}

int64_t mkllm_write(int fd, const char * data, size_t size) {
    DWORD done = 0;
    return WriteFile(handle(fd), data, (DWORD) std::min(size, MOST), &done, nullptr) ? (int64_t) done : failed();
}

int64_t mkllm_write_quietly(int fd, const char * data, size_t size) {
    return mkllm_write(fd, data, size);
}

// A temporary file, which is written to the disk only when memory is short, and goes with its last handle.
int mkllm_memory_file() {
    wchar_t folder[MAX_PATH + 1], path[MAX_PATH + 1];
    const DWORD length = GetTempPathW(MAX_PATH + 1, folder);
    if (!length || length > MAX_PATH || !GetTempFileNameW(folder, L"mkl", 0, path)) {
        return (int) failed();
    }
    const HANDLE own = CreateFileW(path, GENERIC_READ | GENERIC_WRITE | DELETE, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE,
                                   nullptr, CREATE_ALWAYS, FILE_ATTRIBUTE_TEMPORARY | FILE_FLAG_DELETE_ON_CLOSE, nullptr);
    if (own == INVALID_HANDLE_VALUE) {
        failed();
        DeleteFileW(path);
        return -1;
    }
    return _open_osfhandle((intptr_t) own, _O_BINARY);
}

void mkllm_punch(int, int64_t, int64_t) {}  // what of a mapped file is not used takes no memory for long

size_t mkllm_page() {
    SYSTEM_INFO facts;
    GetSystemInfo(&facts);
    return facts.dwPageSize;
}

size_t mkllm_granularity() {
    SYSTEM_INFO facts;
    GetSystemInfo(&facts);
    return facts.dwAllocationGranularity;
}

void * mkllm_map(int fd, int64_t offset, size_t size) {
    const HANDLE mapping = CreateFileMappingW(handle(fd), nullptr, PAGE_READONLY, 0, 0, nullptr);
    if (!mapping) {
        return nullptr;
    }
    void * const begin = MapViewOfFile(mapping, FILE_MAP_READ, (DWORD) (offset >> 32), (DWORD) offset, size);
    CloseHandle(mapping);  // the view keeps it
    return begin;
}

void mkllm_unmap(void * begin, size_t) {
    UnmapViewOfFile(begin);
}

void * mkllm_reserve(size_t size) {
    return VirtualAlloc(nullptr, size, MEM_RESERVE, PAGE_READWRITE);
}

bool mkllm_commit(void * begin, size_t size) {
    return VirtualAlloc(begin, size, MEM_COMMIT, PAGE_READWRITE) != nullptr;
}

void mkllm_forget(void * begin, size_t size) {
    VirtualFree(begin, size, MEM_DECOMMIT);
}

void mkllm_release(void * begin, size_t) {
    VirtualFree(begin, 0, MEM_RELEASE);
}

void mkllm_wish_huge_pages(void *, size_t) {}  // these are for those with a privilege

void mkllm_wish_locked(void * begin, size_t size) {
    VirtualLock(begin, size);
}
