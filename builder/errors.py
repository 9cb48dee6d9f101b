"""Every failure of the builder: one sentence and an exit code (spec/errors.md); printed in one place, `cli.main`."""

from typing import ClassVar


class BuilderFailure(Exception):
    """A failure to be shown as one sentence; `exit_code` ends the process."""

    exit_code: ClassVar[int] = 1


class ModelNotFound(BuilderFailure):
    exit_code = 10


class UnusableModel(BuilderFailure):
    """No GGUF, truncated, damaged, big-endian, vocabulary only, or of an architecture the engine does not know."""

    exit_code = 11


class TargetExists(BuilderFailure):
    """The output exists already, or is the model itself."""

    exit_code = 12


class PermissionFailure(BuilderFailure):
    exit_code = 13


class UnusableIcon(BuilderFailure):
    """An icon that Windows would not show."""

    exit_code = 24


class UnusableRecipe(BuilderFailure):
    """A recipe or a Modelfile has something that cannot be done; the sentence begins with file, line and column."""

    exit_code = 25


class NoSpace(BuilderFailure):
    exit_code = 14


class HubFailure(BuilderFailure):
    """The model hub refused, failed, or could not be reached."""

    exit_code = 15


class WrongHash(BuilderFailure):
    """A download is not what its hash promises."""

    exit_code = 16


class TooLarge(BuilderFailure):
    """A file would be larger than its system, or `--max-file-size`, allows, and there is no way around it."""

    exit_code = 17


class NeedsMatrix(BuilderFailure):
    """A type that comes to nothing without an importance matrix."""

    exit_code = 18


class TooSmall(BuilderFailure):
    """No type of the model is small enough for the memory that it is to fit into."""

    exit_code = 19


class NoKit(BuilderFailure):
    """There is no kit for the target, or it is damaged."""

    exit_code = 20


class MissingTool(BuilderFailure):
    exit_code = 21


class ToolFailed(BuilderFailure):
    """A compiler or another build tool ended with an error."""

    exit_code = 22


class NoSource(ToolFailed):
    """The source of something that is to be compiled cannot be fetched."""

    exit_code = 23


class TaskFailed(BuilderFailure):
    """A task of an evaluation that there is none of, that is not to be read, or that fails."""

    exit_code = 28


class NoAnswer(BuilderFailure):
    """An artifact that is to be evaluated cannot be reached, ends, or refuses what it is asked."""

    exit_code = 29


class UnsupportedArchitecture(BuilderFailure):
    """A checkpoint of an architecture, or in a form, that llama.cpp's converter does not know."""

    exit_code = 50


class MissingTokenizer(BuilderFailure):
    """A checkpoint without the files of its tokenizer, or with one that the converter does not know."""

    exit_code = 51


class MissingPart(BuilderFailure):
    """A checkpoint of which files, or tensors, are not there."""

    exit_code = 52


class DamagedCheckpoint(BuilderFailure):
    """A file of a checkpoint that is truncated or not what its name says."""

    exit_code = 53


class UnsafePickle(BuilderFailure):
    """PyTorch files that would run code when they are loaded."""

    exit_code = 54


class UnusableAdapter(BuilderFailure):
    """A LoRA adapter that cannot be read or converted, or does not belong to the model."""

    exit_code = 55


class UnusableProjector(BuilderFailure):
    """A projector that cannot be read, is none, or does not belong to the model."""

    exit_code = 56
