"""Size against quality as a picture: a point for each version, KL divergence on a logarithmic scale; SVG."""

import html
import math
from collections.abc import Iterator, Sequence

from mkllm.builder.progress import size
from mkllm.builder.quant.evaluate import Evaluation, Quality
from mkllm.runtime.artifact.shown import shown

WIDTH, HEIGHT = 900, 560
LEFT, RIGHT, TOP, BOTTOM = 90, 120, 92, 76
TICKS = 5
SMALLEST = 1e-7  # what the engine tells in six digits is 0 below
POINT, INK, FAINT, GRID = "#4878a8", "#222222", "#666666", "#dddddd"


def chart(found: Evaluation) -> str:
    """The whole file, of an evaluation with two versions at least."""
    original, *versions = found.qualities
    scale = _Scale(versions)
    parts = [*_head(found, original), *_axes(scale), *_points(versions, scale), _foot(found), "</svg>"]
    return "\n".join(parts) + "\n"


class _Scale:
    """Where a size (bytes) and a divergence lie in the picture."""

    def __init__(self, versions: Sequence[Quality]) -> None:
        sizes = [version.size for version in versions]
        values = [_value(version) for version in versions]
        room = max((max(sizes) - min(sizes)) * 0.1, max(sizes) * 0.02)
        self.small, self.large = min(sizes) - room, max(sizes) + room
        self.low = math.floor(math.log10(min(values)))
        self.high = max(math.ceil(math.log10(max(values))), self.low + 1)

    def x(self, count: float) -> float:
        return LEFT + (count - self.small) / (self.large - self.small) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _value(version: Quality) -> float:
    return max(version.divergence.mean.value, SMALLEST) if version.divergence else SMALLEST


def _head(found: Evaluation, original: Quality) -> Iterator[str]:
    yield '<?xml version="1.0" encoding="UTF-8"?>'
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="system-ui, sans-serif" font-size="13">'
    )
    yield f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>'
    yield _text(20, 32, f"{original.name}: size against quality", size=18, weight="bold")
    told = f"against {original.type}, {size(original.size)}, perplexity {original.perplexity.value:.4g}"
    yield _text(20, 54, f"{told}; lower is better", colour=FAINT)


def _axes(scale: _Scale) -> Iterator[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    for power in range(scale.low, scale.high + 1):
        y = scale.y(10.0**power)
        yield f'<line x1="{LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="{GRID}"/>'
        yield _text(LEFT - 8, y + 4, f"{10.0**power:g}", anchor="end", colour=FAINT, size=12)
    for number in range(TICKS):
        count = scale.small + (scale.large - scale.small) * number / (TICKS - 1)
        yield f'<path d="M{scale.x(count):.1f} {bottom}v5" stroke="{INK}"/>'
        yield _text(scale.x(count), bottom + 20, size(count), anchor="middle", colour=FAINT, size=12)
    yield f'<path d="M{LEFT} {TOP}V{bottom}H{right}" stroke="{INK}" fill="none"/>'
    yield _text(LEFT, TOP - 14, "mean KL divergence in nats", colour=FAINT, size=12)


def _points(versions: Sequence[Quality], scale: _Scale) -> Iterator[str]:
    for version in versions:
        x, y = scale.x(version.size), scale.y(_value(version))
        if version.divergence:
            error = version.divergence.mean.error
            low = scale.y(max(_value(version) - error, 10.0**scale.low))
            high = scale.y(min(_value(version) + error, 10.0**scale.high))
            yield f'<path d="M{x:.1f} {low:.1f}V{high:.1f}" stroke="{INK}" stroke-width="1.2"/>'
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{POINT}"/>'
        yield _text(x + 9, y + 4, version.type)


def _foot(found: Evaluation) -> str:
    course = found.course
    words = f"{course.positions} predictions in {course.chunks} pieces of {course.context} tokens of {course.text.name}"
    return _text(20, HEIGHT - 14, f"{words}; whiskers: standard error of the mean.", colour=FAINT, size=12)


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal", colour: str = INK, size: int = 13
) -> str:
    """Names come from models: nothing in them is markup, nor a letter that XML forbids."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" fill="{colour}" '
        f'text-anchor="{anchor}">{html.escape(shown(text))}</text>'
    )
