"""`mkllm eval MODEL`: what each version of a model costs in quality."""

import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mkllm.builder.commands.common import common_options, offline_option, output
from mkllm.builder.progress import size
from mkllm.runtime.artifact.shown import shown

if TYPE_CHECKING:
    from mkllm.builder.quant.evaluate import Evaluation, Quality
    from mkllm.builder.quant.types import QuantType

FEWEST, MOST = 128, 1 << 20


@click.command("eval")
@click.argument("model")
@click.argument("others", nargs=-1, metavar="[OTHER]...")
@click.option(
    "--text", type=click.Path(path_type=Path), required=True, metavar="FILE", help="The text that is predicted."
)
@click.option("--quant", metavar="TYPES", help="Compare MODEL with these types of it: Q8_0,Q4_K_M,…")
@click.option(
    "--imatrix",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Quantize by importance: another text, or what llama-imatrix wrote.",
)
@click.option(
    "--ctx-size",
    type=click.IntRange(FEWEST, MOST),
    default=512,
    show_default=True,
    metavar="TOKENS",
    help="Length of the pieces; of each, the later half is counted.",
)
@click.option("--chunks", type=click.IntRange(1), metavar="N", help="Read so many pieces only; default: all.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@click.option("--csv", "table", type=click.Path(path_type=Path), metavar="FILE", help="Write them as CSV too.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE", help="Draw size against quality, as SVG.")
@offline_option
@common_options
def evaluate(
    model: str,
    others: tuple[str, ...],
    text: Path,
    quant: str | None,
    imatrix: Path | None,
    ctx_size: int,
    chunks: int | None,
    as_json: bool,
    table: Path | None,
    plot: Path | None,
) -> None:
    """Measure how well MODEL predicts a text, and how far smaller versions are from it.

    The versions are types that it is quantized to (--quant), or OTHER models with the same vocabulary. Perplexity and
    KL divergence are computed as in llama.cpp's own tables.
    """
    types = _types(quant)
    if imatrix and not types:
        raise click.UsageError("--imatrix is for quantizing: give --quant too")
    if plot and not types and not others:
        raise click.UsageError("--plot draws versions of MODEL: give --quant, or other models to compare")
    found = _evaluate(model, others, text, types, imatrix, ctx_size, chunks)
    _write(table, found, _csv)
    if plot:
        from mkllm.builder.quant.chart import chart

        _write(plot, found, chart)
    if as_json:
        click.echo(json.dumps(_object(found), indent=2))
    else:
        _print(found)


def _types(text: str | None) -> "list[QuantType]":
    from mkllm.builder.quant.types import UnknownType, parse_type

    try:
        return [parse_type(word) for word in (text or "").split(",") if word.strip()]
    except UnknownType as error:
        raise click.BadParameter(str(error), param_hint="--quant") from None


def _evaluate(
    model: str,
    others: tuple[str, ...],
    text: Path,
    types: "list[QuantType]",
    imatrix: Path | None,
    context: int,
    chunks: int | None,
) -> "Evaluation":
    from mkllm.builder.kit.store import find_kit
    from mkllm.builder.kit.target import default
    from mkllm.builder.model.reference import resolve
    from mkllm.builder.quant.choice import kit_here
    from mkllm.builder.quant.evaluate import course, evaluate
    from mkllm.builder.quant.matrix import matrix
    from mkllm.builder.quant.quantize import quantized, warn

    kit = kit_here(find_kit(default().name))
    kit.verify()
    source = resolve(model, output())
    versions = [resolve(other, output()) for other in others]
    what = course(kit, source, text, context, chunks)
    found = matrix(kit, source, imatrix, output()) if imatrix else None
    warn(source, types, output())
    versions += [quantized(kit, source, kind, found, output()) for kind in types]
    return evaluate(kit, source, versions, what, output())


def _write(path: Path | None, found: "Evaluation", form: Any) -> None:
    if path:
        path.write_text(form(found), encoding="utf-8")


def _object(found: "Evaluation") -> dict[str, Any]:
    course = found.course
    return {
        "text": str(course.text),
        "context": course.context,
        "chunks": course.chunks,
        "positions": course.positions,
        "models": [_row(quality) for quality in found.qualities],
    }


def _row(quality: "Quality") -> dict[str, Any]:
    far = quality.divergence
    return {
        "name": quality.name,
        "quantization": quality.type,
        "size": quality.size,
        "bits_per_weight": round(quality.bits, 4),
        "perplexity": quality.perplexity.value,
        "perplexity_error": quality.perplexity.error,
        "kl_divergence": far and far.mean.value,
        "kl_divergence_error": far and far.mean.error,
        "kl_divergence_99": far and far.worst,
        "same_top": far and far.same_top.value,
        "same_top_error": far and far.same_top.error,
    }


def _csv(found: "Evaluation") -> str:
    rows = [_row(quality) for quality in found.qualities]
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _print(found: "Evaluation") -> None:
    from rich.table import Column, Table
    from rich.text import Text

    from mkllm.builder import tables

    names = ("size", "bits", "perplexity", "KL divergence", "99 %", "same top")
    table = Table(
        Column("model", overflow="fold", min_width=14),
        *(Column(name, justify="right", no_wrap=True) for name in names),
        box=None,
    )
    for quality in found.qualities:
        table.add_row(Text(shown(quality.name)), *_cells(quality))
    tables.show(table)
    course = found.course
    click.echo(
        f"\n{course.positions} predictions in {course.chunks} pieces of {course.context} tokens of "
        f"{shown(course.text.name)}.\nKL divergence in nats from the first model: its mean, and what 99 % stay below. "
        "± is the standard error."
    )


def _cells(quality: "Quality") -> list[str]:
    far, found = quality.divergence, quality.perplexity
    first = [size(quality.size), f"{quality.bits:.2f}", f"{found.value:.5g} ± {found.error:.2g}"]
    if not far:
        return [*first, "", "", ""]
    mean = f"{far.mean.value:.4f} ± {far.mean.error:.4f}"
    return [*first, mean, f"{far.worst:.4f}", f"{100 * far.same_top.value:.1f} %"]
