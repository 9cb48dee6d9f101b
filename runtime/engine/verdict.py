"""What to do when the engine has ended: the same backend again, the next one, or give up; pure, starts nothing."""

import re
from dataclasses import dataclass

from mkllm.runtime.errors import EngineDied, EngineUnusable, RuntimeFailure
from mkllm.runtime.platform.children import FROM_OUTSIDE, ILLEGAL, UNREADABLE

FORGIVEN_AFTER = 60.0
MOST_STRIKES = 5
SAME_AGAIN = 1
OF_MEMORY = re.compile(r"(insufficient|out of) memory|(failed|unable) to allocate|bad_alloc", re.IGNORECASE)


@dataclass(frozen=True)
class Ending:
    """How one run of the engine ended. `ready_seconds` is how long it had served, None if it never did.

    `signal` or `status` is set. `sentence` says it all to a person. `hung`: it was ended since it did nothing while it
    started. `kernel_refused`: the backend's module could not be loaded. `on_gpu`: it computed on a GPU, and may have
    wanted for what no other kernel needs, such as the GPU's memory. `port_taken`: another program has its address.
    """

    sentence: str
    signal: int | None
    status: int | None
    ready_seconds: float | None
    kernel_refused: bool = False
    hung: bool = False
    on_gpu: bool = False
    port_taken: bool = False

    @property
    def from_outside(self) -> bool:
        """Somebody, or the kernel for want of memory, ended it, or was quicker: no fault of the backend's."""
        return self.port_taken or (self.signal in FROM_OUTSIDE and not self.hung)

    @property
    def is_the_kernels_own(self) -> bool:
        """It would end so at every launch here, if another kernel does better: an instruction that is not there, or a
        crash before anybody asked anything. Not by what a request, a full memory or an unreadable file may do too."""
        if self.signal is None or self.from_outside or self.hung or self.signal == UNREADABLE:
            return False
        if OF_MEMORY.search(self.sentence):
            return False
        return self.signal == ILLEGAL or self.ready_seconds is None

    @property
    def no_fault_of_kernel(self) -> bool:
        """It found an error by itself while it started: in its arguments, in files, in the memory that there is."""
        elsewhere = self.kernel_refused or self.on_gpu or self.port_taken
        return self.ready_seconds is None and self.status is not None and not elsewhere


@dataclass(frozen=True)
class Course:
    """Where the ranking stands: `position` of the backend in use, and what has gone wrong since it last served well.

    `strikes` are ends from outside in a row; `kills` are those of them while starting with this same backend. `served`:
    some engine of this launch was ready.
    """

    position: int = 0
    strikes: int = 0
    kills: int = 0
    served: bool = False


def judge(ending: Ending, course: Course, total: int) -> Course | RuntimeFailure:
    """The course to start again with, or the failure to end with. `total` is the number of backends in the ranking."""
    course = _counted(ending, course)
    if ending.no_fault_of_kernel:
        return _given_up(ending, course, "no other kernel would help")
    if ending.from_outside and course.strikes >= MOST_STRIKES and course.served:
        return _given_up(ending, course, f"{course.strikes} times in a row")
    if ending.from_outside and course.kills <= SAME_AGAIN:
        return course
    if course.position + 1 >= total:
        return _given_up(ending, course, "and no other kernel is left")
    return Course(course.position + 1, course.strikes, 0, course.served)


def _counted(ending: Ending, course: Course) -> Course:
    if ending.ready_seconds is not None and ending.ready_seconds >= FORGIVEN_AFTER:
        course = Course(course.position, served=True)
    starting = ending.ready_seconds is None
    return Course(
        course.position,
        course.strikes + ending.from_outside,
        course.kills + (starting and ending.from_outside),
        course.served or ending.ready_seconds is not None,
    )


def _given_up(ending: Ending, course: Course, why: str) -> RuntimeFailure:
    kind = EngineDied if course.served else EngineUnusable
    advice = "a smaller --ctx-size needs less memory; " if OF_MEMORY.search(ending.sentence) else ""
    return kind(f"{ending.sentence} ({why}); {advice}--verbose shows all that it says")
