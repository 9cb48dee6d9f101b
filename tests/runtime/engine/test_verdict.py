"""What follows which death of the engine."""

import signal

import pytest

from mkllm.runtime.engine.verdict import MOST_STRIKES, Course, Ending, judge
from mkllm.runtime.errors import EngineDied, EngineUnusable


def ended(number=None, status=None, ready=None, words="it ended", **how):
    return Ending(words, number, status, ready, **how)


@pytest.mark.parametrize("number", [signal.SIGILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS])
def test_a_crash_at_the_start_moves_on(number):
    course = judge(ended(number), Course(), 3)
    assert isinstance(course, Course) and course.position == 1


def test_crashes_at_the_start_go_through_all_kernels():
    course, positions = Course(), []
    while isinstance(course, Course):
        positions.append(course.position)
        course = judge(ended(signal.SIGILL), course, 14)
    assert positions == list(range(14))
    assert isinstance(course, EngineUnusable)


def test_killed_at_the_start_once_is_the_same_again_twice_is_the_next():
    again = judge(ended(signal.SIGKILL), Course(), 3)
    assert isinstance(again, Course) and again.position == 0
    moved = judge(ended(signal.SIGKILL), again, 3)
    assert isinstance(moved, Course) and moved.position == 1


def test_a_port_that_is_taken_is_the_same_again():
    again = judge(ended(status=1, port_taken=True), Course(), 3)
    assert isinstance(again, Course) and again.position == 0


def test_killed_while_serving_is_the_same_again_a_few_times():
    course = Course()
    for _ in range(MOST_STRIKES - 1):
        course = judge(ended(signal.SIGKILL, ready=1.0), course, 3)
        assert isinstance(course, Course) and course.position == 0
    assert isinstance(judge(ended(signal.SIGKILL, ready=1.0), course, 3), EngineDied)


def test_a_long_good_run_forgives():
    course = Course()
    for _ in range(50):
        course = judge(ended(signal.SIGKILL, ready=61.0), course, 3)
        assert isinstance(course, Course) and course.position == 0


def test_a_crash_while_serving_moves_on():
    course = judge(ended(signal.SIGSEGV, ready=100.0), Course(), 3)
    assert isinstance(course, Course) and (course.position, course.served) == (1, True)


def test_crashes_while_serving_go_through_all_kernels():
    """What an emulator lists and cannot do may be in the first seven; each is found out in the first real request."""
    course, positions = Course(), []
    while isinstance(course, Course):
        positions.append(course.position)
        course = judge(ended(signal.SIGILL, ready=1.0), course, 14)
    assert positions == list(range(14)) and isinstance(course, EngineDied)


def test_a_crash_of_the_last_kernel_is_the_end():
    assert isinstance(judge(ended(signal.SIGSEGV, ready=100.0), Course(2), 3), EngineDied)


def test_an_error_that_the_engine_found_is_the_end_at_once():
    failure = judge(ended(status=1), Course(), 14)
    assert isinstance(failure, EngineUnusable) and "no other kernel would help" in str(failure)
    assert "--ctx-size" not in str(failure)


@pytest.mark.parametrize("words", ["insufficient memory (attempted to allocate 9 MB)", "failed to allocate buffer"])
def test_want_of_memory_is_the_end_at_once(words):
    failure = judge(ended(status=1, words=words), Course(), 14)
    assert isinstance(failure, EngineUnusable)
    assert "(no other kernel would help); a smaller --ctx-size needs less memory" in str(failure)


def test_a_module_that_cannot_be_loaded_moves_on_through_all():
    course, positions = Course(), []
    while isinstance(course, Course):
        positions.append(course.position)
        course = judge(ended(status=2, kernel_refused=True), course, 14)
    assert positions == list(range(14)) and isinstance(course, EngineUnusable)


def test_an_error_while_serving_moves_on():
    course = judge(ended(status=1, ready=1.0), Course(), 14)
    assert isinstance(course, Course) and course.position == 1


@pytest.mark.parametrize(
    ("ending", "own"),
    [
        (ended(signal.SIGILL), True),
        (ended(signal.SIGILL, ready=100.0), True),
        (ended(signal.SIGSEGV), True),
        (ended(signal.SIGKILL, hung=True), False),
        (ended(signal.SIGSEGV, ready=100.0), False),
        (ended(signal.SIGABRT, ready=100.0), False),
        (ended(signal.SIGABRT, words="terminate called: std::bad_alloc"), False),
        (ended(signal.SIGBUS), False),
        (ended(signal.SIGKILL), False),
        (ended(status=2, kernel_refused=True), False),
    ],
)
def test_what_is_a_kernels_own_fault(ending, own):
    assert ending.is_the_kernels_own == own


def test_one_that_hung_moves_on():
    course = judge(ended(signal.SIGKILL, hung=True), Course(), 3)
    assert isinstance(course, Course) and course.position == 1


def test_an_error_on_a_gpu_moves_on_and_may_not_happen_again():
    on_gpu = ended(status=1, on_gpu=True)
    course = judge(on_gpu, Course(), 3)
    assert isinstance(course, Course) and course.position == 1
