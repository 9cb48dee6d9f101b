"""The job object: Windows ends all that is in it when its last handle is closed, which is when this process ends."""

import ctypes
import sys
import threading
from ctypes import Structure, c_int64, c_size_t, c_uint32, c_uint64

assert sys.platform == "win32"

from mkllm.runtime.platform.windows import calls

ACCOUNTING, LIMITS = 1, 9  # JobObjectBasicAccountingInformation, JobObjectExtendedLimitInformation
KILL_ON_CLOSE, JOB_MEMORY = 0x2000, 0x200
UNITS = 1e7  # of 100 ns


class Limits(Structure):
    """JOBOBJECT_EXTENDED_LIMIT_INFORMATION."""

    _fields_ = [
        ("process_time", c_int64),
        ("job_time", c_int64),
        ("flags", c_uint32),
        ("minimum_working_set", c_size_t),
        ("maximum_working_set", c_size_t),
        ("processes", c_uint32),
        ("affinity", c_size_t),
        ("priority_class", c_uint32),
        ("scheduling_class", c_uint32),
        ("io", c_uint64 * 6),
        ("process_memory", c_size_t),
        ("job_memory", c_size_t),
        ("peak_process_memory", c_size_t),
        ("peak_job_memory", c_size_t),
    ]


class Accounting(Structure):
    """JOBOBJECT_BASIC_ACCOUNTING_INFORMATION."""

    _fields_ = [
        ("user", c_int64),
        ("kernel", c_int64),
        ("period_user", c_int64),
        ("period_kernel", c_int64),
        ("page_faults", c_uint32),
        ("processes", c_uint32),
        ("active", c_uint32),
        ("terminated", c_uint32),
    ]


_lock = threading.Lock()
_job: int | None = None


def add_to_job(process: int) -> None:
    """Have this process (its handle) end with this program. One that has already ended is none of the job's.

    Its lifeline ends with this program too: where there can be no job, that has to do.
    """
    if job := _own_job():
        calls.AssignProcessToJobObject(job, process)


def seconds_used() -> float:
    """Processor time of all that was ever in the job."""
    found = Accounting()
    if _job is None or not calls.QueryInformationJobObject(
        _job, ACCOUNTING, ctypes.byref(found), ctypes.sizeof(found), None
    ):
        return 0.0
    return float(found.user + found.kernel) / UNITS


def memory_limit() -> int | None:
    """Bytes that the job which this process itself was put into may have."""
    found = Limits()
    if not calls.QueryInformationJobObject(None, LIMITS, ctypes.byref(found), ctypes.sizeof(found), None):
        return None
    return int(found.job_memory) if found.flags & JOB_MEMORY else None


def _own_job() -> int | None:
    global _job
    with _lock:
        if _job is None:
            _job = calls.CreateJobObject(None, None)
            limits = Limits(flags=KILL_ON_CLOSE)
            if _job:
                calls.SetInformationJobObject(_job, LIMITS, ctypes.byref(limits), ctypes.sizeof(limits))
        return _job
