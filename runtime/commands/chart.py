"""What `bench` measured as a picture: bars with whiskers, one panel to read, one to generate; SVG, no library."""

import html
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mkllm.runtime.artifact.shown import shown
from mkllm.runtime.commands.findings import speed
from mkllm.runtime.commands.speeds import Speeds, Spread, spread
from mkllm.runtime.engine.race import Result

WIDTH, LEFT, RIGHT, BETWEEN = 1000, 230, 20, 30
TOP, ROW, BAR, BOTTOM = 124, 30, 18, 84
TICKS = 4
ROOM = 0.76  # of a panel for the longest whisker; the rest is for its label
MAPPED, REPACKED = "#4878a8", "#d98b2b"
INK, FAINT, GRID = "#222222", "#666666", "#dddddd"


@dataclass(frozen=True)
class Bar:
    """One bar: `strong` for what a launch takes."""

    label: str
    found: Spread
    colour: str
    strong: bool


def chart(speeds: Speeds) -> str:
    """The whole file."""
    rows = [result for result in speeds.results if result.prompts and result.generations]
    height = TOP + ROW * max(1, len(rows)) + BOTTOM
    wide = (WIDTH - LEFT - RIGHT - BETWEEN) // 2
    reading = [_bar(speeds, result, result.prompts) for result in rows]
    generating = [_bar(speeds, result, result.generations) for result in rows]
    parts = [
        *_head(speeds, height),
        *_panel("Reading the prompt", reading, LEFT, wide, True),
        *_panel("Generating", generating, LEFT + wide + BETWEEN, wide, False),
        *_foot(speeds, height),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _bar(speeds: Speeds, result: Result, samples: Sequence[float]) -> Bar:
    found, settings = spread(samples), result.runner.settings
    assert found is not None
    colour = REPACKED if settings.repack else MAPPED
    return Bar(f"{settings.kernel}, {settings.layout}", found, colour, speeds.is_chosen(result))


def _head(speeds: Speeds, height: int) -> Iterator[str]:
    model, course = speeds.manifest.model, speeds.course
    yield '<?xml version="1.0" encoding="UTF-8"?>'
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        'font-family="system-ui, sans-serif" font-size="13">'
    )
    yield f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>'
    yield _text(20, 32, f"{speeds.manifest.name}, {model.quantization}: tokens a second", size=18, weight="bold")
    depth = f", after {course.depth} tokens" if course.depth else ""
    what = f"{course.prompt} tokens read, {course.tokens} generated{depth}"
    yield _text(20, 54, f"{speeds.facts.cpu_model}, {speeds.facts.cores} cores; {what}", colour=FAINT)


def _panel(title: str, bars: Sequence[Bar], left: int, wide: int, labelled: bool) -> Iterator[str]:
    most = max((bar.found.max for bar in bars), default=1.0)
    scale = wide * ROOM / most
    bottom = TOP + ROW * max(1, len(bars))
    yield _text(left, TOP - 18, title, weight="bold")
    for tick in _ticks(most / ROOM):
        x = left + tick * scale
        yield f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom}" stroke="{GRID}"/>'
        yield _text(x, bottom + 18, f"{tick:g}", anchor="middle", colour=FAINT, size=12)
    yield _text(left + wide / 2, bottom + 38, "tokens a second", anchor="middle", colour=FAINT, size=12)
    for number, bar in enumerate(bars):
        middle = TOP + ROW * number + ROW / 2
        yield from _drawn(bar, left, middle, scale)
        if labelled:
            weight = "bold" if bar.strong else "normal"
            yield _text(left - 10, middle + 4.5, bar.label, anchor="end", weight=weight)
    yield f'<line x1="{left}" y1="{TOP}" x2="{left}" y2="{bottom}" stroke="{INK}"/>'


def _drawn(bar: Bar, left: int, middle: float, scale: float) -> Iterator[str]:
    found = bar.found
    low, high = left + found.min * scale, left + found.max * scale
    yield (
        f'<rect x="{left}" y="{middle - BAR / 2:.1f}" width="{found.median * scale:.1f}" height="{BAR}" '
        f'fill="{bar.colour}"/>'
    )
    yield (
        f'<path d="M{low:.1f} {middle:.1f}H{high:.1f}M{low:.1f} {middle - 5:.1f}v10M{high:.1f} {middle - 5:.1f}v10" '
        f'stroke="{INK}" stroke-width="1.2" fill="none"/>'
    )
    yield _text(high + 7, middle + 4.5, speed(found.median), weight="bold" if bar.strong else "normal")


def _ticks(most: float) -> Iterator[float]:
    """Round numbers from 0, about TICKS of them."""
    rough = most / TICKS
    power = 10.0 ** math.floor(math.log10(rough)) if rough > 0 else 1.0
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    for number in range(int(most / step) + 1):
        yield round(number * step, 10)


def _foot(speeds: Speeds, height: int) -> Iterator[str]:
    """What the colours are, and what is to be known of the figures."""
    y = height - 16
    yield f'<rect x="20" y="{y - 11}" width="12" height="12" fill="{MAPPED}"/>'
    yield _text(38, y, "weights mapped", size=12)
    yield f'<rect x="145" y="{y - 11}" width="12" height="12" fill="{REPACKED}"/>'
    yield _text(163, y, "weights repacked", size=12)
    rounds = speeds.course.rounds
    words = f"Median of {rounds} rounds, whiskers from the slowest to the fastest. Bold: what a launch takes."
    yield _text(290, y, words, colour=FAINT, size=12)
    if speeds.busy:
        used = f"Measured on a busy machine: other programs used {speeds.others:.1f} CPUs."
        yield _text(20, 76, used, colour="#b03020")


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal", colour: str = INK, size: int = 13
) -> str:
    """Names come from models: nothing in them is markup, nor a letter that XML forbids."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" fill="{colour}" '
        f'text-anchor="{anchor}">{html.escape(shown(text))}</text>'
    )
