"""The command line `headwater`: what commands there are, and the edge that catches their errors."""

import sys
from typing import Annotated, Final, NoReturn

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup
from typer.main import get_group

from contracts.errors import HeadwaterError
from pipelines.lazy import CommandRow, add_commands

VERSION: Final = "0.1.0"

_START, _DATA, _MODELS, _FEEDS, _OPERATE = (
    "Start here",
    "Data",
    "Models",
    "Feeds",
    "Operate",
)

COMMANDS: Final = (
    CommandRow(
        "demo",
        "pipelines.commands.demo:demo",
        "From nothing to a served, ranked feed; with --data, from your own files.",
        _START,
    ),
    CommandRow(
        "ingest",
        "pipelines.commands.ingest:ingest",
        "Read people, posts, follows and events from files into the event log.",
        _DATA,
    ),
    CommandRow(
        "data describe",
        "pipelines.commands.data:describe",
        "Say what came in: counts, span, density, distributions; and warn about what will hurt.",
        _DATA,
    ),
    CommandRow(
        "features materialize",
        "pipelines.commands.features:materialize",
        "Compute feature snapshots from the event log and fill the online store.",
        _DATA,
    ),
    CommandRow(
        "features certify",
        "pipelines.commands.certify:certify",
        "Prove that features are served as training recomputes them, and know no label early.",
        _DATA,
    ),
    CommandRow(
        "simulate world",
        "pipelines.commands.simulate:world",
        "Generate a small world with known truth: people, posts, follows and what they did.",
        _DATA,
    ),
    CommandRow(
        "train",
        "pipelines.commands.train:train",
        "Train all model families and the ensemble ranker into a bundle.",
        _MODELS,
    ),
    CommandRow(
        "evaluate",
        "pipelines.commands.evaluate:evaluate",
        "Score every model of a bundle on later data, with intervals, beside popularity.",
        _MODELS,
    ),
    CommandRow(
        "recommend",
        "pipelines.commands.recommend:recommend",
        "Write plain top-k lists for all users to a Parquet file.",
        _MODELS,
    ),
    CommandRow(
        "publish",
        "pipelines.commands.publish:publish",
        "Make a bundle the champion once it passes the gate and the golden requests.",
        _MODELS,
    ),
    CommandRow(
        "rollback",
        "pipelines.commands.publish:rollback",
        "Drop the canary; where none runs, make the champion before this one the champion again.",
        _MODELS,
    ),
    CommandRow(
        "mlflow",
        "pipelines.commands.mlflow:mlflow",
        "Open the MLflow UI on our runs, until Ctrl-C.",
        _MODELS,
    ),
    CommandRow(
        "serve",
        "pipelines.commands.serve:serve",
        "Serve the feed API over HTTP until SIGTERM or Ctrl-C.",
        _FEEDS,
    ),
    CommandRow(
        "feed",
        "pipelines.commands.feed:feed",
        "Rank a feed for one viewer and print it, a reason beside each post.",
        _FEEDS,
    ),
    CommandRow(
        "why",
        "pipelines.commands.why:why",
        "Explain why a post stands where it stands in a feed, or why it is not there.",
        _FEEDS,
    ),
    CommandRow(
        "replay",
        "pipelines.commands.replay:replay",
        "Rebuild a served feed from its record: identical to the bit, or what differs.",
        _FEEDS,
    ),
    CommandRow(
        "policy show",
        "pipelines.commands.policy:show",
        "Print a policy: every weight, cap, share and multiplier of ranking.",
        _FEEDS,
    ),
    CommandRow(
        "policy validate",
        "pipelines.commands.policy:validate",
        "Check a policy file and print its hash.",
        _FEEDS,
    ),
    CommandRow(
        "policy diff",
        "pipelines.commands.policy:diff",
        "List what changes from one policy to another.",
        _FEEDS,
    ),
    CommandRow(
        "doctor",
        "pipelines.commands.doctor:doctor",
        "Say what binds in one sentence and what to do about it, then show every check.",
        _OPERATE,
    ),
    CommandRow(
        "keys create",
        "pipelines.commands.keys:create",
        "Make an API key. It is shown once: only a hash of it is stored.",
        _OPERATE,
    ),
    CommandRow(
        "keys revoke",
        "pipelines.commands.keys:revoke",
        "Revoke an API key for good; running servers refuse it within five seconds.",
        _OPERATE,
    ),
    CommandRow(
        "keys list",
        "pipelines.commands.keys:list_keys",
        "List API keys and what they may do; never what lets someone in.",
        _OPERATE,
    ),
    CommandRow(
        "crashtest",
        "pipelines.commands.crashtest:crashtest",
        "Kill -9 the writer at random moments; nothing acknowledged may be lost, nothing doubled.",
        _OPERATE,
    ),
)

GROUPS: Final = {
    "data": ("Look at what is in the event log.", _DATA),
    "features": ("Compute features from the event log.", _DATA),
    "simulate": ("Make data whose truth is known.", _DATA),
    "policy": ("Read and compare ranking policies.", _FEEDS),
    "keys": ("Manage keys of the platform API.", _OPERATE),
}

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
    add_commands(root, COMMANDS, GROUPS)
    return root


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run one command and exit: 0 done, 2 the caller's input, 1 a failure inside."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        build().main(args=given, prog_name="headwater")
    except HeadwaterError as error:
        if "--debug" in given:
            raise
        sys.exit(_explain(error, as_json="--json" in given))
    except Exception as error:
        if "--debug" in given:
            raise
        sys.exit(_apologise(error, as_json="--json" in given))
    sys.exit(0)


def _explain(error: HeadwaterError, *, as_json: bool) -> int:
    errors = Console(stderr=True, highlight=False)
    text = f"[bold red]{escape(error.title)}.[/] {escape(error.detail)}"
    if error.hint:
        text += f"\n[bold]What to do:[/] {escape(error.hint)}"
    errors.print(text)
    if as_json:
        problem = {"type": error.type, "detail": error.detail, "hint": error.hint}
        typer.echo(orjson.dumps({"ok": False, "error": problem}).decode())
    return 2 if error.status < 500 else 1


def _apologise(error: Exception, *, as_json: bool) -> int:
    errors = Console(stderr=True, highlight=False)
    what = f"{type(error).__name__}: {error}"
    errors.print(f"[bold red]Something failed inside.[/] {escape(what)}")
    errors.print("[bold]What to do:[/] run it again with --debug before the command's name.")
    if as_json:
        problem = {"type": "internal", "detail": what, "hint": "headwater --debug ..."}
        typer.echo(orjson.dumps({"ok": False, "error": problem}).decode())
    return 1
