"""`mkllm eval MODEL`: how well a model predicts a text, what its smaller versions cost, or what it scores in tasks."""

import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mkllm.builder.commands.common import common_options, offline_option, output
from mkllm.builder.commands.written import expect_writable, write
from mkllm.builder.progress import size
from mkllm.runtime.artifact.shown import shown

if TYPE_CHECKING:
    from mkllm.builder.quant.evaluate import Evaluation, Quality
    from mkllm.builder.quant.types import QuantType

FEWEST, MOST = 128, 1 << 20
PIECE = 512
OF_TEXT = ("others", "quant", "imatrix", "chunks", "plot")
OF_TASKS = ("include_path", "num_fewshot", "limit", "apply_chat_template", "api_key")


@click.command("eval")
@click.argument("model")
@click.argument("others", nargs=-1, metavar="[OTHER]...")
@click.option("--text", type=click.Path(path_type=Path), metavar="FILE", help="The text that is predicted.")
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
    metavar="TOKENS",
    help=f"Length of the pieces of a text; of each, the later half is counted (default: {PIECE}). With --tasks: the "
    "context that MODEL is started with.",
)
@click.option("--chunks", type=click.IntRange(1), metavar="N", help="Read so many pieces only; default: all.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE", help="Draw size against quality, as SVG.")
@click.option(
    "--tasks",
    metavar="NAMES",
    help="Run these tasks of lm-evaluation-harness (pip install 'mkllm[eval]'): arc_easy,hellaswag,mmlu_*,…",
)
@click.option(
    "--include-path",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Find tasks in the files of this folder too.",
)
@click.option("--num-fewshot", type=click.IntRange(0), metavar="N", help="Examples before each question of a task.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Ask only the first questions of each task.")
@click.option("--apply-chat-template", is_flag=True, help="Ask in the chat template, as the chat page does.")
@click.option("--api-key", envvar="MKLLM_API_KEY", metavar="KEY", help="The key that the artifact demands.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@click.option("--csv", "table", type=click.Path(path_type=Path), metavar="FILE", help="Write them as CSV too.")
@offline_option
@common_options
def evaluate(model: str, text: Path | None, tasks: str | None, **options: Any) -> None:
    """Measure how well MODEL predicts a text, or what it scores in tasks.

    With --text: perplexity, and the KL divergence of smaller versions, which are types that it is quantized to
    (--quant) or OTHER models with the same vocabulary; computed as in llama.cpp's own tables.

    With --tasks: tasks of EleutherAI's lm-evaluation-harness, asked of a running artifact (MODEL is its address, such
    as http://127.0.0.1:8080), of an artifact's file, or of a model. Their data is downloaded from the hub.
    """
    if bool(text) == bool(tasks):
        raise click.UsageError("give either --text FILE, for perplexity, or --tasks NAMES, for scores")
    _expect_only(options, OF_TASKS if text else OF_TEXT, "--tasks" if text else "--text")
    if tasks:
        from mkllm.builder.commands.tasks import evaluate_tasks

        evaluate_tasks(model, tasks, options, output())
    elif text:
        _evaluate_text(model, text, options)


def _expect_only(options: dict[str, Any], others: tuple[str, ...], owner: str) -> None:
    for name in others:
        source = click.get_current_context().get_parameter_source(name)
        if options[name] and source is click.core.ParameterSource.COMMANDLINE:
            shown_name = "OTHER" if name == "others" else "--" + name.replace("_", "-")
            raise click.UsageError(f"{shown_name} belongs to {owner}: leave it out, or give that")


def _evaluate_text(model: str, text: Path, options: dict[str, Any]) -> None:
    others, imatrix, table, plot = (options[name] for name in ("others", "imatrix", "table", "plot"))
    types = _types(options["quant"])
    if imatrix and not types:
        raise click.UsageError("--imatrix is for quantizing: give --quant too")
    if plot and not types and not others:
        raise click.UsageError("--plot draws versions of MODEL: give --quant, or other models to compare")
    for path in (table, plot):
        expect_writable(path)
    found = _evaluate(model, others, text, types, imatrix, options["ctx_size"] or PIECE, options["chunks"])
    try:
        if options["as_json"]:
            click.echo(json.dumps(_object(found), indent=2))
        else:
            _print(found)
    finally:  # whatever becomes of the one, the others are there
        _write(table, plot, found)


def _write(table: Path | None, plot: Path | None, found: "Evaluation") -> None:
    from mkllm.builder.quant.chart import chart

    try:
        write(table, _csv(found))
    finally:
        write(plot, chart(found) if plot else "")


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
