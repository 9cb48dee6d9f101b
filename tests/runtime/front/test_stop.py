"""A signal ends the wait of the event loop, whenever and in whichever thread it comes."""

import subprocess
import sys

PROGRAM = """
import asyncio, signal, threading, time
from mkllm.runtime.front.stop import Stop, woken

def elsewhere():
    time.sleep(0.3)  # the loop waits by now
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
    time.sleep(60)

async def main():
    loop, over, stop = asyncio.get_running_loop(), asyncio.Event(), Stop()
    threading.Thread(target=elsewhere, daemon=True).start()
    with woken(loop):
        stop.when_asked(lambda: loop.call_soon_threadsafe(over.set))
        await over.wait()
    assert stop.asked and signal.set_wakeup_fd(-1) == -1

asyncio.run(main())
print("over")
"""


def test_one_that_another_thread_takes() -> None:
    words = [sys.executable, "-W", "error", "-c", PROGRAM]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout) == (0, "over\n"), done.stderr
