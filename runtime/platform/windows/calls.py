"""Functions of Windows that Python has none for, declared once; a failure is an OSError with Windows's own sentence."""

import ctypes
import sys
from ctypes import POINTER, Structure, byref, c_int, c_ulong, c_ulonglong, c_void_p, sizeof
from ctypes.wintypes import BOOL, DWORD, HANDLE, LPCWSTR, LPDWORD, LPVOID
from typing import Any

assert sys.platform == "win32"

kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
NO_HANDLE = c_void_p(-1).value
SYNCHRONIZE = 0x100000  # the right to wait for a process


class Overlapped(Structure):
    """OVERLAPPED, of which only the offset is used."""

    _fields_ = [
        ("internal", c_void_p),
        ("internal_high", c_void_p),
        ("offset", DWORD),
        ("offset_high", DWORD),
        ("event", HANDLE),
    ]


def at(offset: int) -> Overlapped:
    """An OVERLAPPED for this offset."""
    return Overlapped(None, None, offset & 0xFFFFFFFF, offset >> 32, None)


def _declared(name: str, result: Any, *arguments: Any) -> Any:
    function = getattr(kernel32, name)
    function.restype, function.argtypes = result, list(arguments)
    return function


ReadFile = _declared("ReadFile", BOOL, HANDLE, LPVOID, DWORD, LPDWORD, POINTER(Overlapped))
WriteFile = _declared("WriteFile", BOOL, HANDLE, LPVOID, DWORD, LPDWORD, POINTER(Overlapped))
LockFileEx = _declared("LockFileEx", BOOL, HANDLE, DWORD, DWORD, DWORD, DWORD, POINTER(Overlapped))
UnlockFileEx = _declared("UnlockFileEx", BOOL, HANDLE, DWORD, DWORD, DWORD, POINTER(Overlapped))
CreateFile = _declared("CreateFileW", HANDLE, LPCWSTR, DWORD, DWORD, LPVOID, DWORD, DWORD, HANDLE)
CloseHandle = _declared("CloseHandle", BOOL, HANDLE)
OpenProcess = _declared("OpenProcess", HANDLE, DWORD, BOOL, DWORD)
GetStdHandle = _declared("GetStdHandle", HANDLE, DWORD)
GetConsoleMode = _declared("GetConsoleMode", BOOL, HANDLE, LPDWORD)
SetConsoleMode = _declared("SetConsoleMode", BOOL, HANDLE, DWORD)
GetConsoleProcessList = _declared("GetConsoleProcessList", DWORD, LPDWORD, DWORD)
SetConsoleCtrlHandler = _declared("SetConsoleCtrlHandler", BOOL, c_void_p, BOOL)
PeekNamedPipe = _declared("PeekNamedPipe", BOOL, HANDLE, LPVOID, DWORD, LPDWORD, LPDWORD, LPDWORD)
CreateJobObject = _declared("CreateJobObjectW", HANDLE, LPVOID, LPCWSTR)
SetInformationJobObject = _declared("SetInformationJobObject", BOOL, HANDLE, c_int, LPVOID, DWORD)
QueryInformationJobObject = _declared("QueryInformationJobObject", BOOL, HANDLE, c_int, LPVOID, DWORD, LPDWORD)
AssignProcessToJobObject = _declared("AssignProcessToJobObject", BOOL, HANDLE, HANDLE)
GetCurrentProcess = _declared("GetCurrentProcess", HANDLE)
GetProcessAffinityMask = _declared("GetProcessAffinityMask", BOOL, HANDLE, c_void_p, c_void_p)
GetActiveProcessorCount = _declared("GetActiveProcessorCount", DWORD, c_ulong)
GetSystemTimes = _declared("GetSystemTimes", BOOL, POINTER(c_ulonglong), POINTER(c_ulonglong), POINTER(c_ulonglong))
GlobalMemoryStatusEx = _declared("GlobalMemoryStatusEx", BOOL, LPVOID)
GetLogicalProcessorInformationEx = _declared("GetLogicalProcessorInformationEx", BOOL, c_int, LPVOID, LPDWORD)
VirtualAlloc = _declared("VirtualAlloc", c_void_p, c_void_p, ctypes.c_size_t, DWORD, DWORD)
VirtualProtect = _declared("VirtualProtect", BOOL, c_void_p, ctypes.c_size_t, DWORD, LPDWORD)
VirtualFree = _declared("VirtualFree", BOOL, c_void_p, ctypes.c_size_t, DWORD)


def failure() -> OSError:
    """What the call that has just failed says."""
    return ctypes.WinError(ctypes.get_last_error())


def expect(succeeded: Any) -> None:
    """Raises `failure` for a call that returned 0."""
    if not succeeded:
        raise failure()


__all__ = [name for name in dir() if name[:1].isupper()] + ["at", "byref", "expect", "failure", "sizeof"]
