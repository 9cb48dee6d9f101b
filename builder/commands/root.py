"""The group of all commands: knows their names and one line about each, imports none until it is called."""

import importlib

import click

from mkllm.builder.commands.common import common_options

COMMANDS = {
    "build": ("mkllm.builder.commands.build:build", "Make one executable file out of a model."),
    "models": (
        "mkllm.builder.commands.models:models",
        "List models: those with a short name, or those on this machine.",
    ),
    "pull": ("mkllm.builder.commands.pull:pull", "Fetch a model, and nothing else."),
    "bundle": (
        "mkllm.builder.commands.bundle:bundle",
        "Collect what a machine without a network needs to build a model.",
    ),
    "run": ("mkllm.builder.commands.run:run", "Build a model into the cache and run it."),
    "doctor": ("mkllm.builder.commands.doctor:doctor", "Show what is fastest on this machine, and why."),
    "bench": ("mkllm.builder.commands.bench:bench", "Measure how fast a model runs on this machine."),
    "devices": ("mkllm.builder.commands.devices:devices_command", "List the devices that --for knows."),
    "eval": (
        "mkllm.builder.commands.evaluate:evaluate",
        "Measure a model: perplexity, cost of quantizing, scores in tasks.",
    ),
    "inspect": ("mkllm.builder.commands.inspect:inspect", "Show what an artifact holds."),
    "verify": ("mkllm.builder.commands.verify:verify", "Compare every byte of an artifact with what was built."),
    "extract": ("mkllm.builder.commands.extract:extract", "Take the model, or another member, out of an artifact."),
    "kit": ("mkllm.builder.kit.cli:kit", "Build, fetch, list and show kits."),
}


class LazyGroup(click.Group):
    """A group that imports a command when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name][0].split(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, 1, 0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(COMMANDS)}"
            raise click.UsageError(f"there is no command {args[0]!r}: {hint}", ctx)
        return super().resolve_command(ctx, args)


def _version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from mkllm.builder.version import version

        click.echo(f"mkllm {version()}")
        context.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
@common_options
def root() -> None:
    """Make one executable file out of a language model.

    `mkllm build demo` makes a file that runs, with its chat page, on a machine with nothing installed and no network.
    """
