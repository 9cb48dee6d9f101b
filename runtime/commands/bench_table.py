"""What `bench` says to people: a table as wide as the terminal allows, and sentences below it; measures nothing."""

from collections.abc import Iterator, Sequence

from mkllm.runtime.amounts import counted, size
from mkllm.runtime.artifact.shown import shown
from mkllm.runtime.commands.findings import speed
from mkllm.runtime.commands.paragraphs import columns, wrapped
from mkllm.runtime.commands.speeds import Speeds, Spread, spread
from mkllm.runtime.engine.race import Result

GAP = "  "
Row = tuple[str, ...]


def lines(speeds: Speeds, width: int) -> Iterator[str]:
    """All that is printed."""
    yield from wrapped(_title(speeds), width)
    yield ""
    yield from _table(speeds, width)
    yield ""
    for sentence in _sentences(speeds):
        yield from wrapped(sentence, width)


def _title(speeds: Speeds) -> str:
    model, facts = speeds.manifest.model, speeds.facts
    kind = f"{model.quantization}, {model.parameters / 1e6:,.0f} M parameters"
    return f"{speeds.manifest.name} ({kind}) on {facts.cpu_model}, {facts.cores} cores"


def _table(speeds: Speeds, width: int) -> Iterator[str]:
    """With the spread of the speeds, if there is room for it."""
    found = [result for result in speeds.results if result.prompts and result.generations]
    wide = [_head(True), *(_row(speeds, result, True) for result in found)]
    if max(columns(line) for line in _aligned(wide)) <= width:
        yield from _aligned(wide)
    else:
        yield from _aligned([_head(False), *(_row(speeds, result, False) for result in found)])


def _head(with_spread: bool) -> Row:
    spreads = ("min-max",) if with_spread else ()
    return ("kernel", "weights", "threads", "prompt", *spreads, "generation", *spreads, "load")


def _row(speeds: Speeds, result: Result, with_spread: bool) -> Row:
    settings = result.runner.settings
    name = shown(settings.kernel) + (" *" if speeds.is_chosen(result) else "")
    threads = f"{settings.threads}/{settings.threads_batch}"
    cells = [name, settings.layout, threads]
    for samples in (result.prompts, result.generations):
        found = spread(samples)
        assert found is not None
        cells += [speed(found.median), *([f"{speed(found.min)}-{speed(found.max)}"] if with_spread else [])]
    load = spread(result.loads)
    return (*cells, f"{load.median:.2f} s" if load else "")


def _aligned(rows: Sequence[Row]) -> Iterator[str]:
    """Words to the left, numbers to the right."""
    widths = [max(map(columns, cells)) for cells in zip(*rows, strict=True)]
    for row in rows:
        cells = []
        for place, (cell, wide) in enumerate(zip(row, widths, strict=True)):
            blank = " " * (wide - columns(cell))
            cells.append(cell + blank if place < 2 else blank + cell)
        yield GAP.join(cells).rstrip()


def _sentences(speeds: Speeds) -> Iterator[str]:
    course = speeds.course
    depth = f", after {course.depth} tokens" if course.depth else ""
    yield (
        f"Tokens a second, the median of {course.rounds} rounds: {course.prompt} tokens read, {course.tokens} "
        f"generated{depth}. Threads are those to generate and to read. * is what a launch takes."
    )
    yield _memory(speeds)
    for result in speeds.results:
        if result.failure:
            yield f"{result.runner.title}: not measured, {result.failure}"
    yield from speeds.notes
    if speeds.busy:
        yield (
            f"These are the figures of a busy machine: other programs used {speeds.others:.1f} of its "
            f"{speeds.facts.cpus_online or speeds.facts.cpus} CPUs meanwhile."
        )


def _memory(speeds: Speeds) -> str:
    found, best = speeds.bandwidth, _best_share(speeds)
    if found is None:
        return f"No share of the memory's bandwidth: {speeds.why_no_share()}."
    measured = f"The memory gives {_rate(found)} to {counted(speeds.chosen.threads, 'thread')}"
    if best is None:
        return f"{measured}; no share of it is told, since {speeds.why_no_share() or 'nothing was generated'}."
    share, result = best
    read = size(speeds.manifest.model.token_weights)
    return f"{measured}; generating reaches {100 * share:.0f} % of it ({read} a token, {result.runner.title})."


def _best_share(speeds: Speeds) -> tuple[float, Result] | None:
    """Of what a launch takes; else of the best."""
    known = [(share, result) for result in speeds.results if (share := speeds.share(result)) is not None]
    chosen = [one for one in known if speeds.is_chosen(one[1])]
    return max(chosen or known, key=lambda one: one[0], default=None)


def _rate(found: Spread) -> str:
    return f"{size(int(found.median))}/s ({size(int(found.min))} to {size(int(found.max))})"
