"""`headwater demo`: the whole way, in one command."""

from pathlib import Path
from typing import Annotated

import typer

from contracts.errors import NotFound
from contracts.settings import load_settings
from pipelines.console import AsJson, Home, Reporter, Results, json_line
from pipelines.demo import DemoPlan, run_demo


def demo(
    data: Annotated[
        Path | None, typer.Option(help="Folder of your files, or of a known public set.")
    ] = None,
    *,
    once: Annotated[
        bool, typer.Option("--once", help="End after a smoke request, with a JSON summary.")
    ] = False,
    people: Annotated[int, typer.Option(help="People of the generated world.")] = 3000,
    posts: Annotated[int, typer.Option(help="Posts of the generated world.")] = 12_000,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port; another one where it is taken.")
    ] = None,
    results: Results = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """From nothing to a served, ranked feed; with --data, from your own files.

    It generates a small world or reads the folder, ingests, computes features, trains every model
    family, evaluates, publishes, serves, and prints feeds with their reasons. Its home is
    `demo`, or `demo-` and the folder's name, in the usual home; it begins anew each time.
    """
    report = Reporter(as_json)
    if data is not None and not data.is_dir():
        msg = f"there is no folder {data}"
        raise NotFound(msg, hint="--data wants a folder with people, posts, follows and events")
    settings = load_settings()
    name = "demo" if data is None else f"demo-{data.resolve().name}"
    folder = home or settings.home / name
    wanted = settings.port if port is None else port
    plan = DemoPlan(folder, data, once, people, posts, wanted, results)
    summary = run_demo(plan, report)
    if once or as_json:
        typer.echo(json_line(summary))
    if not summary["ok"]:
        raise typer.Exit(1)
