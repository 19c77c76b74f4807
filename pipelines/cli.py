"""The command line `headwater`: what commands there are, and the edge that catches their errors."""

import errno
import sys
from functools import cache
from typing import Annotated, Final, NoReturn

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup
from typer.main import get_group

from contracts.errors import HeadwaterError
from pipelines.lazy import CommandRow, add_commands, first_line

VERSION: Final = "0.1.0"

_COMMANDS: Final = {
    "Start here": {"demo": "demo:demo"},
    "Data": {
        "ingest": "ingest:ingest",
        "data describe": "data:describe",
        "features materialize": "features:materialize",
        "features certify": "certify:certify",
        "simulate world": "simulate:world",
    },
    "Models": {
        "train": "train:train",
        "evaluate": "evaluate:evaluate",
        "recommend": "recommend:recommend",
        "reproduce": "reproduce:reproduce",
        "publish": "publish:publish",
        "rollback": "publish:rollback",
        "drift": "drift:drift",
        "retrain": "retrain:retrain",
        "mlflow": "mlflow:mlflow",
    },
    "Feeds": {
        "serve": "serve:serve",
        "feed": "feed:feed",
        "why": "why:why",
        "replay": "replay:replay",
        "policy show": "policy:show",
        "policy validate": "policy:validate",
        "policy diff": "policy:diff",
    },
    "Operate": {
        "doctor": "doctor:doctor",
        "keys create": "keys:create",
        "keys revoke": "keys:revoke",
        "keys list": "keys:list_keys",
        "crashtest": "crashtest:crashtest",
    },
}
"""Heading of the list -> words after `headwater` -> module and function in `commands`."""


@cache
def commands() -> tuple[CommandRow, ...]:
    """List the commands in the order of `--help`, each with the first line that it says."""
    return tuple(
        CommandRow(path, f"pipelines.commands.{target}", first_line(target), panel)
        for panel, group in _COMMANDS.items()
        for path, target in group.items()
    )


GROUPS: Final = {
    "data": ("Look at what is in the event log.", "Data"),
    "features": ("Compute features from the event log.", "Data"),
    "simulate": ("Make data whose truth is known.", "Data"),
    "policy": ("Read and compare ranking policies.", "Feeds"),
    "keys": ("Manage keys of the platform API.", "Operate"),
}

_OF_PATHS: Final = (
    errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EROFS,
)  # fmt: skip
"""What goes wrong with a path that somebody has named."""
_HELP: Final = """A feed ranking platform that can prove what it served and why.

Four files (people, posts, follows, events) become a feed API that ranks with trained models.
The usual order: [bold]ingest[/], [bold]features materialize[/], [bold]train[/],
[bold]evaluate[/], [bold]publish[/], [bold]serve[/]. Or all of it: [bold]headwater demo[/].
"""
_EPILOG: Final = (
    "Settings come from headwater.toml and HEADWATER_* (docs/settings.md). Commands that report "
    "take --json and print one JSON object as their last line. Exit status: 0 done, 2 your "
    "input, 1 a failure inside."
)


def _root(
    context: typer.Context,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the whole traceback when something fails.")
    ] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    del debug  # read by `main`, which must know it before anything can fail
    if version:
        typer.echo(f"headwater {VERSION}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def build() -> TyperGroup:
    """Build the command line; no command's module is imported."""
    app = typer.Typer(
        name="headwater",
        help=_HELP,
        epilog=_EPILOG,
        add_completion=False,
        rich_markup_mode="rich",
        invoke_without_command=True,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    root = get_group(app)
    add_commands(root, commands(), GROUPS)
    return root


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run one command and exit: 0 done, 2 the caller's input, 1 a failure inside."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        build().main(args=given, prog_name="headwater")
    except Exception as error:
        if "--debug" in given:
            raise
        sys.exit(_explain(error, as_json="--json" in given))
    sys.exit(0)


def _explain(error: Exception, *, as_json: bool) -> int:
    """Say what failed and what to do, and give the exit status."""
    if isinstance(error, HeadwaterError):
        title, detail, advice = error.title, error.detail, error.hint
        problem = {"type": error.type, "detail": detail, "hint": error.hint}
    elif isinstance(error, OSError) and error.errno in _OF_PATHS and error.filename is not None:
        title, advice = "A file or folder cannot be used", "check the path and who may use it"
        detail = f"{error.filename}: {error.strerror}"
        problem = {"type": "invalid-input", "detail": detail, "hint": advice}
    else:
        title, detail = "Something failed inside", f"{type(error).__name__}: {error}"
        advice = "run it again with --debug before the command's name."
        problem = {"type": "internal", "detail": detail, "hint": "headwater --debug ..."}
    errors = Console(stderr=True, highlight=False)
    errors.print(f"[bold red]{escape(title)}.[/] {escape(detail)}")
    if advice:
        errors.print(f"[bold]What to do:[/] {escape(advice)}")
    if as_json:
        typer.echo(orjson.dumps({"ok": False, "error": problem}).decode())
    inside = problem["type"] == "internal" or getattr(error, "status", 0) >= 500
    return 1 if inside else 2
