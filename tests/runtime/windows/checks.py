"""Runs on Windows: checks of runtime/platform/windows, all in one process; prints how each ended as JSON.

Those named `check_…` are called with an empty folder each; what they return is compared by test_platform_on_windows.py.
"""

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import traceback
from pathlib import Path

from mkllm.runtime.artifact.draft import draft
from mkllm.runtime.hardware.plans import Plans
from mkllm.runtime.platform import channel, children, files, own
from mkllm.runtime.platform.windows import machine, processor, terminal
from mkllm.runtime.signals import Terminated, raise_on_termination

LONG = "a folder with a long name " * 4


def deep(folder):
    path = folder / "Grüße 東京" / LONG.strip() / LONG.strip() / LONG.strip()
    os.makedirs(files.native(path))
    return path


def check_reading_and_writing_at_a_place(folder):
    descriptor = files.create(folder / "file")
    files.write_from(descriptor, memoryview(b"hello"), 3)
    os.close(descriptor)
    descriptor = files.open_for_reading(str(folder / "file"))
    buffer = bytearray(10)
    count = files.read_into(descriptor, memoryview(buffer), 4)
    end = files.read_into(descriptor, memoryview(buffer)[4:], 8)
    os.close(descriptor)
    return [count, bytes(buffer).decode(), end]


def check_beyond_four_gigabytes(folder):
    descriptor = files.create(folder / "file")
    subprocess.run(["fsutil", "sparse", "setflag", str(folder / "file")], capture_output=True, stdin=subprocess.PIPE)
    files.write_from(descriptor, memoryview(b"far"), 5 << 30)
    buffer = bytearray(8)
    count = files.read_into(descriptor, memoryview(buffer), (5 << 30) + 1)
    os.close(descriptor)
    return [count, bytes(buffer[:count]).decode()]


def check_a_folder_is_no_file(folder):
    try:
        files.open_for_reading(str(folder))
    except IsADirectoryError:
        return "refused"


def check_renamed_and_removed_while_open(folder):
    descriptor = files.create(folder / "a")
    os.write(descriptor, b"x")
    os.replace(folder / "a", folder / "b")
    os.unlink(folder / "b")
    os.close(descriptor)
    return os.listdir(folder)


def check_a_temporary_file_is_gone_with_its_last_user(folder):
    descriptor = files.temporary("slice", folder)
    before = len(os.listdir(folder))
    os.close(descriptor)
    return [before, os.listdir(folder)]


def check_locks(folder):
    first, second = files.create(folder / "a"), os.open(folder / "a", os.O_RDWR)
    files.lock(first)
    found = []
    try:
        files.lock(second)
    except BlockingIOError:
        found.append("held")
    found.append(os.read(second, 1).decode())
    files.lock_shared(first)
    files.lock_shared(second)
    os.close(first)
    os.close(second)
    third = os.open(folder / "a", os.O_RDWR)
    files.lock(third)
    os.close(third)
    return found


def check_a_folder_in_use_is_not_renamed(folder):
    (folder / "home").mkdir()
    held = os.open(folder / "home" / ".lock", os.O_RDWR | os.O_CREAT)
    files.lock_shared(held)
    try:
        files.rename_unused(folder / "home", folder / "home" / ".lock", folder / "old")
    except OSError:
        os.close(held)
        files.rename_unused(folder / "home", folder / "home" / ".lock", folder / "old")
        return os.listdir(folder)


def check_a_draft_at_a_long_path(folder):
    target = deep(folder) / "model.gguf"
    with draft(target) as new:
        os.write(new.descriptor, b"weights")
        new.commit(0o644, False)
    with draft(target) as new:
        os.write(new.descriptor, b"other")
        new.commit(0o644, True)
    descriptor = files.open_for_reading(str(target))
    data = os.read(descriptor, 100).decode()
    os.close(descriptor)
    return [len(str(target)) > 300, data, os.listdir(files.native(target.parent))]


def check_weights_that_are_open_stay(folder):
    """They are opened by their names again; nothing takes those of files that are open."""
    (folder / "weights").write_bytes(b"weights")
    (folder / "other").write_bytes(b"other")
    with open(folder / "weights", "rb", buffering=0):
        try:
            os.replace(folder / "other", folder / "weights")
        except PermissionError:
            return (folder / "weights").read_bytes().decode()


def check_a_new_name_is_nobodys(folder):
    (folder / "a").write_bytes(b"a")
    (folder / "b").write_bytes(b"b")
    try:
        files.rename_new(folder / "a", folder / "b")
    except FileExistsError:
        files.rename_new(folder / "a", folder / "c")
        return sorted(os.listdir(folder))


def check_processes_that_run(folder):
    return [files.is_running(os.getpid()), files.is_running(0x7FFFFFF0)]


def child(code, **streams):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    words = [sys.executable, "-c", code, *streams.pop("words", ())]
    return children.start(words, streams.pop("descriptors", ()), dict(os.environ), **{**pipes, **streams})


def check_what_is_inherited(folder):
    (folder / "file").write_text("inherited")
    shared = os.open(folder / "file", os.O_RDONLY)
    other = os.open(folder / "file", os.O_RDONLY)
    code = (
        "import msvcrt, os, sys\n"
        "print(os.read(msvcrt.open_osfhandle(int(sys.argv[1]), 0), 99).decode())\n"
        "try: os.read(msvcrt.open_osfhandle(int(sys.argv[2]), 0), 1); print('leaked')\n"
        "except OSError: print('not inherited')"
    )
    words = [str(children.number(shared)), str(children.number(other))]
    out, err = child(code, words=words, descriptors=[shared]).communicate()
    return out.decode().split("\r\n")[:2] + err.decode().splitlines()


def check_what_is_heard(folder):
    process = child("import sys, time; print('one', flush=True); time.sleep(1); print('two'); sys.exit(5)")
    heard = []
    with contextlib.closing(children.Hearing()) as hearing:
        hearing.add(process.stdout, heard.append)
        silent = not hearing.hear(0.01) and process.poll() is None
        while hearing.open:
            hearing.hear(None)
        process.wait()
        hearing.drain()
    return [silent, b"".join(heard).decode().split(), process.returncode]


def check_how_programs_end(folder):
    ends = []
    for code in ("import os; os._exit(0xC0000005 - (1 << 32))", "import os; os.abort()", "raise SystemExit(1)"):
        process = child(code)
        process.communicate()
        number = children.crash(process.returncode)
        ends.append(children.crash_name(number) if number else process.returncode)
    process = child("input()")
    children.kill(process)
    number = children.crash(process.wait(), served=True)
    return [*ends, children.crash_name(number), number in children.FROM_OUTSIDE]


def check_a_lifeline_asks_to_end(folder):
    far, near = os.pipe()
    code = "import msvcrt, os, sys; os.read(msvcrt.open_osfhandle(int(sys.argv[1]), 0), 1); sys.exit(7)"
    process = child(code, words=[str(children.number(far))], descriptors=[far])
    os.close(far)
    children.ask_to_end(process, os.fdopen(near, "wb", 0))
    return process.wait(60)


def check_the_way_to_the_engine(folder):
    address = channel.new_address()
    words = channel.arguments(address)
    with socket.create_server((words[1], int(words[3]))) as server:
        connection = channel.connect(address, 5)
        accepted = server.accept()[0]
        accepted.sendall(b"line\nrest")
        accepted.close()
        with connection, channel.reader(connection) as lines:
            return [address.startswith("127.0.0.1:"), lines.readline().decode(), lines.read().decode()]


def check_ctrl_break_and_the_end_of_the_console_are_a_signal(folder):
    """As Windows calls the handler; wine makes neither of them."""
    raise_on_termination()
    terminal.LAST_SECONDS = 0.1
    try:
        return [ended_by(event) for event in (terminal.BREAK, *terminal.CLOSED)]
    finally:
        for number in (signal.SIGTERM, signal.SIGBREAK):
            signal.signal(number, signal.SIG_DFL)


def ended_by(event):
    condition = threading.Condition()
    try:
        threading.Thread(target=terminal._on_control, args=(event,)).start()
        with condition:
            for _ in range(100):
                condition.wait(children.LONGEST_WAIT)
    except Terminated as end:
        return end.number


def check_whose_the_console_is(folder):
    kernel32 = ctypes.WinDLL("kernel32")
    kernel32.FreeConsole()
    kernel32.AllocConsole()
    alone = terminal._is_alone()
    code = "print(flush=True); input()"
    guest = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    guest.stdout.readline()
    shared = terminal._is_alone()
    guest.kill()
    return [alone, shared]


def check_escapes_are_for_consoles(folder):
    with open(folder / "file", "w") as file:
        return terminal.escapes(file)


def check_the_machine(folder):
    total, available = machine.memory()
    found = machine.topology()
    registers = [int(number, 16) for number in processor.registers().split(",")]
    told = [int(number, 16) for number in map(hex, processor._told())]
    agree = all(mine & windows == windows for mine, windows in zip(registers, told, strict=True))
    return [
        0 < available <= total,
        machine.machine(),
        len(found.cores) > 0,
        machine.online() > 0,
        agree,
        len(registers),
    ]


def check_what_is_remembered_is_told_anew(folder):
    memory = Plans(folder / "plans", "subject", "hardware")
    for kernel in ("cpu-haswell", "cpu-sse42"):
        memory.remember_crash(kernel, "an illegal instruction")
    return [sorted(memory.crashes()), os.listdir(folder / "plans")]


def check_this_process(folder):
    return [own.guardian(), own.release().count("."), own.own_program() == sys.executable]


def main():
    folder, results = Path(sys.argv[1]), {}
    for name, check in list(globals().items()):
        if name.startswith("check_"):
            (folder / name).mkdir()
            try:
                results[name] = check(folder / name)
            except Exception:
                results[name] = traceback.format_exc()
    print(json.dumps(results))


if __name__ == "__main__":
    main()
