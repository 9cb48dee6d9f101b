"""Every failure of the artifact: one sentence and an exit code each (spec/errors.md); knows nothing of its callers."""

from typing import ClassVar


class RuntimeFailure(Exception):
    """A failure to be shown as one sentence; `exit_code` ends the process."""

    exit_code: ClassVar[int] = 1


class TargetExists(RuntimeFailure):
    """The output of `extract` exists already."""

    exit_code = 12


class PermissionFailure(RuntimeFailure):
    """A file or folder may not be read or cannot be written."""

    exit_code = 13


class NoSpace(RuntimeFailure):
    exit_code = 14


class OutputFailure(NoSpace):
    """Standard output cannot be written."""


class NotAnArtifact(RuntimeFailure):
    """The file is no artifact, is truncated, or has a newer format than this reader knows."""

    exit_code = 30


class Different(RuntimeFailure):
    """`verify` found bytes that are not those that were built."""

    exit_code = 31


class NoSuchMember(RuntimeFailure):
    exit_code = 32


class WeightsUnusable(RuntimeFailure):
    """The weights that lie beside the program are missing, or are not those that it was built with."""

    exit_code = 33


class NoPlace(RuntimeFailure):
    """There is no folder that the engine can be placed in."""

    exit_code = 71


class EngineUnusable(RuntimeFailure):
    """No backend could start the engine."""

    exit_code = 40


class EngineDied(RuntimeFailure):
    """The engine ended and could not be started again."""

    exit_code = 41


class CannotListen(RuntimeFailure):
    """No port is free, or the address cannot be bound."""

    exit_code = 42


class PromptTooLong(RuntimeFailure):
    exit_code = 43


class TooLittleMemory(RuntimeFailure):
    """The machine has not enough memory for the model, whatever else runs on it."""

    exit_code = 45


class NoSystemd(RuntimeFailure):
    """A service is wanted where systemd does not run."""

    exit_code = 46


class NoService(RuntimeFailure):
    """There is no service of that name, or none that this program made."""

    exit_code = 47


class ServiceFailed(RuntimeFailure):
    """systemd refused the service, or it did not become ready."""

    exit_code = 48


class NoChat(RuntimeFailure):
    """The model makes vectors or scores of texts, and does not answer them."""

    exit_code = 49


class RequestRefused(RuntimeFailure):
    """The engine answered a request with an error."""

    exit_code = 44
