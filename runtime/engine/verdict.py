"""What to do when the engine has ended: the same backend again, the next one, or give up; pure, starts nothing."""

import signal
from dataclasses import dataclass

from mkllm.runtime.errors import EngineDied, EngineUnusable, RuntimeFailure

FORGIVEN_AFTER = 60.0
MOST_STRIKES = 5
MOST_ERRORS = 2
SAME_AGAIN = 1
FROM_OUTSIDE = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP})


@dataclass(frozen=True)
class Ending:
    """How one run of the engine ended. `ready_seconds` is how long it had served, None if it never did.

    `signal` or `status` is set. `sentence` says it all to a person. `kernel_tried`: it came as far as that.
    """

    sentence: str
    signal: int | None
    status: int | None
    kernel_tried: bool
    ready_seconds: float | None

    @property
    def from_outside(self) -> bool:
        """Somebody, or the kernel for want of memory, ended it: no fault of the backend's."""
        return self.signal in FROM_OUTSIDE


@dataclass(frozen=True)
class Course:
    """Where the ranking stands: `position` of the backend in use, and what has gone wrong since it last served well.

    `strikes` are ends of any kind in a row; of those while starting, `errors` are the ones with an exit status (not a
    signal) and `kills` the ones from outside with this same backend. `served`: some engine of this launch was ready.
    """

    position: int = 0
    strikes: int = 0
    errors: int = 0
    kills: int = 0
    served: bool = False


def judge(ending: Ending, course: Course, total: int) -> Course | RuntimeFailure:
    """The course to start again with, or the failure to end with. `total` is the number of backends in the ranking."""
    course = _counted(ending, course)
    if not ending.from_outside and ending.ready_seconds is None and not ending.kernel_tried and ending.signal is None:
        return _given_up(ending, course, "no other kernel would help")
    if course.strikes >= MOST_STRIKES and course.served:
        return _given_up(ending, course, f"{course.strikes} times in a row")
    if course.errors >= MOST_ERRORS:
        return _given_up(ending, course, "with another kernel too")
    if ending.from_outside and course.kills <= SAME_AGAIN:
        return course
    if course.position + 1 >= total:
        return _given_up(ending, course, "and no other kernel is left")
    return Course(course.position + 1, course.strikes, course.errors, 0, course.served)


def _counted(ending: Ending, course: Course) -> Course:
    if ending.ready_seconds is not None and ending.ready_seconds >= FORGIVEN_AFTER:
        course = Course(course.position, served=True)
    starting = ending.ready_seconds is None
    return Course(
        course.position,
        course.strikes + 1,
        course.errors + (starting and ending.status is not None),
        course.kills + (starting and ending.from_outside),
        course.served or ending.ready_seconds is not None,
    )


def _given_up(ending: Ending, course: Course, why: str) -> RuntimeFailure:
    kind = EngineDied if course.served else EngineUnusable
    return kind(f"{ending.sentence} ({why}); --verbose shows all that it says")
