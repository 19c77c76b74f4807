"""`headwater ingest`: files into the event log."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from contracts.errors import InvalidInput
from features.workspace import Workspace
from pipelines.console import AsJson, Home, Reporter, home_of
from pipelines.ingestion.ingest import IngestReport, open_dataset
from pipelines.ingestion.ingest import ingest as run_ingest
from pipelines.ingestion.mapping import load_mapping
from pipelines.ingestion.rows import Kind
from pipelines.ingestion.sources import Dataset

_File = Path | None


def ingest(
    folder: Annotated[
        _File,
        typer.Argument(
            help="Folder with people, posts, follows and events (.csv, .tsv, .jsonl, .parquet), "
            "or a known data set."
        ),
    ] = None,
    *,
    people: Annotated[_File, typer.Option(help="File of people.")] = None,
    posts: Annotated[_File, typer.Option(help="File of posts.")] = None,
    follows: Annotated[_File, typer.Option(help="File of follows.")] = None,
    events: Annotated[_File, typer.Option(help="File of events.")] = None,
    mapping: Annotated[_File, typer.Option(help="TOML file that names the columns.")] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help="KIND.FIELD=COLUMN, e.g. events.viewer_id=uid; may be repeated."),
    ] = None,
    adapter: Annotated[
        str,
        typer.Option(help="ml-100k, ml-1m, lastfm, lightgcn, files; auto recognises the folder."),
    ] = "auto",
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Read people, posts, follows and events from files into the event log.

    Columns are guessed from their names and shown. Rows that do not fit go to a reject file with
    line and reason. Running it again adds nothing.
    """
    report = Reporter(as_json)
    given = {Kind.PEOPLE: people, Kind.POSTS: posts, Kind.FOLLOWS: follows, Kind.EVENTS: events}
    files = {kind: path for kind, path in given.items() if path is not None}
    if folder is None and not files and mapping is None:
        msg = "nothing to ingest"
        raise InvalidInput(msg, hint="name a folder, or files with --people, --posts, --events")
    if adapter != "auto" and (folder is None or files or mapping or column):
        msg = "--adapter reads a whole folder by its own rules, without files or columns named"
        raise InvalidInput(msg, hint="leave it out, or give the folder alone")
    named = None if mapping is None and not column else load_mapping(mapping, column or [])
    dataset = open_dataset(folder, files, named, "files" if named is not None else adapter)
    _show_columns(report, dataset)
    with Workspace.open(home_of(home)) as workspace:
        done = run_ingest(workspace, dataset, report)
    _show(report, done)
    report.finish({"ok": True, **asdict(done)})


def _show_columns(report: Reporter, dataset: Dataset) -> None:
    if dataset.columns:
        report.table("Columns", ("file", "field", "column", "how found"), dataset.columns)
    for file, names in dataset.unused.items():
        if names:
            report.say(f"{file}: not used as a field: {', '.join(names)}", style="dim")
    for note in dataset.notes:
        report.say(f"note: {note}")


def _show(report: Reporter, done: IngestReport) -> None:
    rows = [(f.file, f.kind, f.accepted, f.duplicates, f.rejected, f.seconds) for f in done.files]
    heads = ("file", "kind", "accepted", "already there", "rejected", "seconds")
    report.table(f"Ingested {done.dataset}", heads, rows)
    for file in done.files:
        for note in file.notes:
            report.say(f"{file.file}: {note}")
        for reason, count in list(file.reasons.items())[:5]:
            report.say(f"{file.file}: {count} rejected: {reason}", style="yellow")
        if file.reject_file:
            report.say(f"{file.file}: rejected rows are in {file.reject_file}", style="yellow")
    if done.bare_posts:
        report.say("no file of posts: posts were made of the events' post ids, without text")
    if done.implied_people:
        report.say(f"{done.implied_people} people are named by other files only; they were added")
    report.say(f"The log holds {done.events_in_log} events. Next: headwater data describe")
