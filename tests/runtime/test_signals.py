"""Which signals end this program, and how."""

import signal

import pytest

from mkllm.runtime.signals import ENDING, Terminated, heeded, raise_on_termination, uninterrupted


@pytest.fixture(autouse=True)
def as_before():
    before = {number: signal.getsignal(number) for number in ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


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
