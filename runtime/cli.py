"""The artifact's command line, and the one place where its failures are printed; commands are imported when used."""

import contextlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from click.exceptions import Exit

from mkllm.runtime import options, streams
from mkllm.runtime.errors import OutputFailure, RuntimeFailure
from mkllm.runtime.own_file import own_file, own_name
from mkllm.runtime.platform.terminal import hold_open
from mkllm.runtime.signals import Terminated, cause_of, raise_on_termination

if TYPE_CHECKING:
    from mkllm.runtime.hardware.settings import Effort

PIPE_CLOSED = 128 + 13
INTERRUPTED = 128 + 2
DEFECT = 1


@dataclass
class Invocation:
    """What commands need to know of the whole command line: the words after `--`, and whether to show tracebacks."""

    extra: tuple[str, ...] = ()
    debug: bool = False


class Sections(click.Group):
    """A group whose help shows its options in sections, and says where options of llama-server's that it lacks go."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            if record := param.get_help_record(ctx):
                sections.setdefault(getattr(param, "section", "Other"), []).append(record)
        self.format_commands(ctx, formatter)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


def _debugging(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        ctx.find_root().ensure_object(Invocation).debug = True


def _version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from mkllm.runtime.commands.info import version_line

        click.echo(version_line(own_file()))
        ctx.exit()


debug = click.option(
    "--debug", is_flag=True, expose_value=False, is_eager=True, callback=_debugging, help="Show tracebacks of failures."
)
version = click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_version,
    help="Show what this file is made of.",
)


@click.group(cls=Sections, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@options.asking
@options.serving
@options.model
@options.sampling
@options.logging
@version
@debug
@click.pass_context
def program(ctx: click.Context, /, **given: Any) -> int | None:
    """A language model in one file. Without arguments it serves a chat page and the usual APIs on this machine.

    What follows a `--` goes to the engine, llama.cpp's server, as it is.
    """
    if ctx.invoked_subcommand is not None:
        _expect_nothing_before(ctx)
        return None
    if given["prompt"] is not None:
        return _answer(ctx, given)
    if given["as_json"] or given["system"] is not None or given["images"] or given["sounds"]:
        raise click.UsageError("--json, --system, --image and --audio belong to -p TEXT: add it, or leave them out")
    return _serve(ctx, given)


def _expect_nothing_before(ctx: click.Context) -> None:
    """Options of this group before a command would be lost: refuse them."""
    for param in ctx.command.params:
        if param.name and ctx.get_parameter_source(param.name) is ParameterSource.COMMANDLINE and param.expose_value:
            raise click.UsageError(f"put {param.opts[0]!r} after {ctx.invoked_subcommand!r}, not before it")


def _answer(ctx: click.Context, given: dict[str, Any]) -> int:
    from mkllm.runtime.commands import prompt

    asked = prompt.Prompt(given["prompt"], given["system"], given["as_json"], given["images"], given["sounds"])
    wanted = options.engine_options(given, ctx.obj.extra)
    return prompt.run(asked, wanted, given["kernel"], options.log_settings(given))


def _serve(ctx: click.Context, given: dict[str, Any]) -> int:
    from mkllm.runtime.commands import serve

    return serve.run(given, ctx.obj.extra)


@program.command("serve")
@options.serving
@options.model
@options.sampling
@options.logging
@debug
@click.pass_context
def serve_command(ctx: click.Context, /, **given: Any) -> int:
    """Serve the chat page and the APIs (the default)."""
    return _serve(ctx, given)


@program.command("chat")
@click.option("--system", "-sys", type=options.Text(), metavar="TEXT", help="System prompt, instead of the maker's.")
@click.option("--history", type=options.FILE, metavar="FILE", help="Keep what was typed in this file.")
@options.model
@options.sampling
@options.logging
@debug
@click.pass_context
def chat_command(ctx: click.Context, /, **given: Any) -> int:
    """Chat in the terminal; /help lists its commands."""
    from mkllm.runtime.commands import chat

    wanted = options.engine_options(given, ctx.obj.extra)
    return chat.run(given["system"], given["history"], wanted, given["kernel"], options.log_settings(given))


@program.command("info")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@debug
def info_command(as_json: bool) -> int:
    """Show the model, and which kernel runs here and why."""
    from mkllm.runtime.commands import info

    return info.run(own_file(), as_json)


@program.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--tune",
    type=click.Choice(["quick", "full", "off"]),
    default="quick",
    metavar="quick|full|off",
    help="Measure for 3 seconds unless that was done before, for a minute anew, or not at all.",
)
@click.option("--no-tune", "tune", flag_value="off", help="The same as --tune off.")
@debug
def doctor_command(tune: "Effort", as_json: bool) -> int:
    """Show what was found on this machine, chosen, rejected and measured, and what would make it faster."""
    from mkllm.runtime.commands import doctor

    return doctor.run(own_file(), tune, as_json)


@program.command("bench")
@click.option("--all", "everything", is_flag=True, help="All kernels that run here, weights mapped and repacked.")
@click.option("--prompt-tokens", type=options.POSITIVE, default=512, metavar="N", help="Tokens to read (default: 512).")
@click.option("--tokens", type=options.POSITIVE, default=64, metavar="N", help="Tokens to generate (default: 64).")
@click.option("--rounds", type=click.IntRange(min=5), default=5, metavar="N", help="How often, 5 or more (default: 5).")
@click.option("--depth", type=click.IntRange(min=0), default=0, metavar="N", help="Tokens already in the context.")
@click.option("--threads", "-t", type=options.POSITIVE, metavar="N", help="Threads to generate with.")
@click.option("--threads-batch", "-tb", type=options.POSITIVE, metavar="N", help="Threads to read prompts with.")
@click.option("--kernel", metavar="NAME", help="This kernel and no other; 'info' lists them.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--csv", metavar="FILE", help="Write a table for programs; '-' prints it instead of the one for people.")
@click.option("--plot", metavar="FILE.svg", help="Draw a chart.")
@debug
def bench_command(**given: Any) -> int:
    """Measure how fast the model reads and generates here, and how much of the memory's bandwidth it reaches."""
    from mkllm.runtime.commands import bench

    return bench.run(*options.bench_options(given))


@program.command("inspect")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest.")
@click.option("--recipe", "as_recipe", is_flag=True, help="Print the recipe from which `mkllm build` makes this file.")
@debug
def inspect_command(as_json: bool, as_recipe: bool) -> int:
    """Show what this file holds: model, defaults, kit, kernels, members."""
    from mkllm.runtime.commands import inspect

    return inspect.run(own_file(), as_json, as_recipe)


@program.command("verify")
@debug
def verify_command() -> int:
    """Check every byte of this file against what was built."""
    from mkllm.runtime.commands import verify

    return verify.run(own_file())


@program.command("extract")
@click.argument("member", default="model.gguf")
@click.option("-o", "--output", type=click.Path(), help="File to write (default: the member's own name, here).")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@debug
def extract_command(member: str, output: str | None, force: bool) -> int:
    """Write a member of this file (the model) to disk."""
    from mkllm.runtime.commands import extract

    return extract.run(own_file(), member, output, force)


@program.group("service")
def service_group() -> None:
    """Run this file at every boot, by systemd, as an unprivileged user in a sandbox."""


named = click.option("--name", metavar="NAME", help="Name of the service (default: the model's).")
own_manager = click.option("--user", is_flag=True, help="A service of yours, without root, instead of the system's.")


@service_group.command("install")
@named
@own_manager
@click.option("--print", is_flag=True, help="Print the unit, and install nothing.")
@click.option("--now/--no-now", default=True, help="Start it now too (the default).")
@click.option("--force", is_flag=True, help="Replace the service of that name, if it is one of mkllm's.")
@debug
@click.pass_context
def install_command(ctx: click.Context, /, **given: Any) -> int:
    """Install the service. Options of 'serve' follow a --, such as: service install -- --host 0.0.0.0 --port 80"""
    from mkllm.runtime.commands import service

    return service.run_install(serve_command, given, ctx.obj.extra)


@service_group.command("remove")
@named
@own_manager
@debug
def remove_command(name: str | None, user: bool) -> int:
    """Stop the service and remove it, with its keys and what it measured."""
    from mkllm.runtime.commands import service

    return service.run_remove(name, user)


@service_group.command("status")
@named
@own_manager
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@debug
def status_command(name: str | None, user: bool, as_json: bool) -> int:
    """Say how the service is: 0 while it runs, 3 while it does not."""
    from mkllm.runtime.commands import service

    return service.run_status(name, user, as_json)


@program.command("licenses")
@debug
def licenses_command() -> int:
    """Show the licences of everything in this file."""
    from mkllm.runtime.commands import licenses

    return licenses.run(own_file())


def main(words: Sequence[str]) -> int:
    """Run the command line; the exit code (spec/errors.md). A window that would close with a failure is kept open."""
    code = _guarded(words)
    hold_open(code)
    return code


def _guarded(words: Sequence[str]) -> int:
    before, extra = _split(words)
    invocation = Invocation(extra)
    name = own_name()
    try:
        raise_on_termination()
        streams.prepare()
        return _run(before, name, invocation)
    except BrokenPipeError:
        streams.drop_output()
        return PIPE_CLOSED
    except KeyboardInterrupt:
        return INTERRUPTED
    except Terminated as end:
        return 128 + end.number


def _run(words: Sequence[str], name: str, invocation: Invocation) -> int:
    try:
        return _invoke(words, name, invocation)
    except Exit as end:
        return end.exit_code
    except click.ClickException as failure:
        return _report(name, _usage(failure), failure.exit_code, invocation)
    except RuntimeFailure as failure:
        if isinstance(failure, OutputFailure):
            streams.drop_output()
        return _report(name, str(failure), failure.exit_code, invocation)
    except BrokenPipeError:
        raise
    except Exception as defect:
        if cause := cause_of(defect, KeyboardInterrupt) or cause_of(defect, Terminated):
            raise cause from None
        text = f"a defect of this program's own: {type(defect).__name__}: {defect}; --debug shows where it happened"
        return _report(name, text, DEFECT, invocation)


def _invoke(words: Sequence[str], name: str, invocation: Invocation) -> int:
    """Not by click's own `main`, which has its own way with Ctrl-C and with readers that went away."""
    with program.make_context(name, list(words), obj=invocation) as ctx:
        code: int | None = program.invoke(ctx)
        sys.stdout.flush()
        return code or 0


def _usage(failure: click.ClickException) -> str:
    hint = "; options of llama-server's own go after '--'" if isinstance(failure, click.NoSuchOption) else ""
    return failure.format_message().rstrip(".") + hint


def _report(name: str, text: str, code: int, invocation: Invocation) -> int:
    """One sentence on standard error, and the traceback before it if it is wanted."""
    if invocation.debug:
        import traceback

        traceback.print_exc()
    if os.sep == "\\":  # quoted names have it twice
        text = text.replace("\\\\", "\\")
    with contextlib.suppress(OSError):
        print(f"{name}: {text}", file=sys.stderr, flush=True)
    return code


def _split(words: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """What stands before the first `--`, and what stands after it."""
    if "--" not in words:
        return list(words), ()
    at = list(words).index("--")
    return list(words[:at]), tuple(words[at + 1 :])
