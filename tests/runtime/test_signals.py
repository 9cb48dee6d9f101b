"""Which signals end this program, and how."""

import os
import signal
import threading
import time

import pytest

from mkllm.runtime.signals import ENDING, Terminated, heeded, raise_on_termination, undisturbed, uninterrupted


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_termination_is_an_exception(number):
    signal.signal(number, signal.SIG_DFL)
    raise_on_termination()
    with pytest.raises(Terminated) as end:
        signal.raise_signal(number)
    assert end.value.number == number


@pytest.mark.parametrize("number", ENDING)
def test_what_is_ignored_at_the_start_stays_ignored(number):
    signal.signal(number, signal.SIG_IGN)
    raise_on_termination()
    signal.raise_signal(number)
    assert heeded() == [other for other in ENDING if other != number]


def test_cleaning_up_is_not_interrupted():
    raise_on_termination()
    with uninterrupted():
        for number in ENDING:
            signal.raise_signal(number)
    with pytest.raises(Terminated):
        signal.raise_signal(signal.SIGTERM)


def test_what_comes_within_a_block_comes_after_it_though_there_are_other_threads():
    """A signal to the process is taken by any thread; Python acts on it in the main one."""
    over, done = threading.Event(), []
    thread = threading.Thread(target=over.wait)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt), undisturbed():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)
            done.append("all")
    finally:
        over.set()
        thread.join()
    assert done == ["all"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler
