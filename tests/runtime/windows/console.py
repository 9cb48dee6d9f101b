"""Runs on Windows: starts a program in a console of both, and presses Ctrl-C there.

`console.py TEXT PROGRAM WORDS…`: when the program has printed TEXT. What it says and how it ends is printed as JSON.
"""

import ctypes
import json
import subprocess
import sys
import threading

kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
kernel32.FreeConsole()
assert kernel32.AllocConsole(), ctypes.get_last_error()
unmoved = ctypes.WINFUNCTYPE(ctypes.c_int, ctypes.c_ulong)(lambda event: 1)
assert kernel32.SetConsoleCtrlHandler(unmoved, True)
text, *words = sys.argv[1:]
pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
process = subprocess.Popen(words, text=True, encoding="utf-8", **pipes)
said, pressed = "", False
process.stdin.close()
timer = threading.Timer(500, process.kill)
timer.start()
while letter := process.stdout.read(1):
    said += letter
    if text in said and not pressed:
        pressed = bool(kernel32.GenerateConsoleCtrlEvent(0, 0))
print(json.dumps({"pressed": pressed, "said": said, "code": process.wait()}))
timer.cancel()
