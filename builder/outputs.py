"""Several files that appear together: programs, and the weights that lie beside them."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from mkllm.runtime.artifact.draft import Draft, bring_back, failure, remove_replaced
from mkllm.runtime.signals import undisturbed


def appear(weights: Sequence[Draft], programs: Sequence[Draft], force: bool) -> None:
    """Give all drafts their names: the weights first, so that no program appears before what it needs.

    With `force` they replace what has these names; a program that is replaced is out of the way before its weights are,
    so that never an old program has new weights. If anything fails, all is again as it was. Raises TargetExists.
    """
    for new in weights:
        new.settle(0o644, force)
    for new in programs:
        new.settle(0o755, force)
    with undisturbed():
        if not weights and len(programs) == 1:
            programs[0].appear()  # at once, and whatever has its name is there until then
        else:
            _replace(weights, programs)
        for new in (*weights, *programs):
            remove_replaced(new.target)


def _replace(weights: Sequence[Draft], programs: Sequence[Draft]) -> None:
    with contextlib.ExitStack() as undo:
        for new in (*programs, *weights):
            undo.callback(bring_back, new.target)
            new.set_aside()
        for new in (*weights, *programs):
            undo.callback(new.take_back)
            new.appear()
        undo.pop_all()


@contextlib.contextmanager
def made_folder(folder: Path) -> Iterator[None]:
    """A folder to write into; if it had to be made and the block fails, it is gone again."""
    try:
        folder.mkdir()
    except FileExistsError:
        yield
        return
    except OSError as error:
        raise failure(error, folder) from None
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            folder.rmdir()
        raise
