"""`mkllm`: starts the command and is the one place that prints failures (spec/errors.md)."""

import contextlib
import errno
import signal
import sys
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from mkllm.runtime import streams
from mkllm.runtime.errors import OutputFailure
from mkllm.runtime.signals import cause_of

if TYPE_CHECKING:
    from click import ClickException

PIPE_CLOSED = 141  # as a program that dies of SIGPIPE
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
STOPS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "its terminal was closed"}


class Stopped(BaseException):
    """A signal asks this process to end."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number)
        self.number = number


@dataclass
class Settings:
    """Options of every command."""

    debug: bool = False
    quiet: bool = False


def main(args: list[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    streams.prepare()
    for number in STOPS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _stop)
    sys.exit(_run(args))


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped(signal.Signals(number))


def _run(args: list[str] | None) -> int:
    settings = Settings()
    try:
        code = _invoke(sys.argv[1:] if args is None else args, settings)
        sys.stdout.flush()
        return code
    except Stopped as stopped:
        return _stopped(stopped)
    except BrokenPipeError:
        streams.drop_output()
        return PIPE_CLOSED
    except Exception as error:
        if cause := cause_of(error, Stopped):
            return _stopped(cause)
        if isinstance(error, OutputFailure):
            streams.drop_output()
        if settings.debug:
            raise
        return _explain(error)


def _stopped(stopped: Stopped) -> int:
    _say(STOPS[stopped.number])
    return 128 + stopped.number


def _invoke(args: list[str], settings: Settings) -> int:
    """Run the command itself; click's own `main` would end the process in ways of its own."""
    from click.exceptions import Exit

    from mkllm.builder.commands.root import root

    try:
        with root.make_context("mkllm", list(args), obj=settings) as context:
            root.invoke(context)
    except Exit as done:
        return done.exit_code
    return 0


def _explain(error: Exception) -> int:
    """Print the sentence for a failure; returns its exit code."""
    import click

    from mkllm.builder.errors import BuilderFailure, PermissionFailure
    from mkllm.runtime.errors import RuntimeFailure

    if isinstance(error, (BuilderFailure, RuntimeFailure)):
        _say(str(error))
        return error.exit_code
    if isinstance(error, click.ClickException):
        return _usage(error)
    if isinstance(error, OSError) and error.filename:
        _say(f"{error.filename!r} cannot be used ({_reason(error)}): check it and the folder that it is in")
        return PermissionFailure.exit_code if error.errno in FORBIDDEN else 1
    if isinstance(error, OSError):
        _say(f"the system refused something ({_reason(error)}): --debug shows what")
        return 1
    _say(f"a defect of mkllm's own ({type(error).__name__}: {error}): please report it, with what --debug prints")
    return 1


def _usage(error: "ClickException") -> int:
    import click

    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return error.exit_code
    context = getattr(error, "ctx", None)
    hint = f"; see `{context.command_path} --help`" if context else ""
    _say(error.format_message().rstrip(".") + hint)
    return error.exit_code


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        print(f"mkllm: {text}", file=sys.stderr, flush=True)
