"""Ingest: from sources of rows to the event log and the catalog; safe to repeat."""

import json
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Final

import numpy as np

from contracts.events import EventType
from features.segments import integers_of
from features.workspace import Workspace
from pipelines.console import Reporter
from pipelines.ingestion.adapters.registry import open_adapter
from pipelines.ingestion.event_loading import load_events
from pipelines.ingestion.loading import (
    FileState,
    KnownIds,
    Loading,
    load_follows,
    load_people,
    load_posts,
)
from pipelines.ingestion.mapping import Mapping as FileMapping
from pipelines.ingestion.pairs import NewestOfPairs
from pipelines.ingestion.rejects import RejectFile, RowCheck
from pipelines.ingestion.rows import Kind, RowBatch, Source
from pipelines.ingestion.sources import Dataset, plain_dataset

_LOADERS: Final[Mapping[Kind, Callable[[Loading, FileState, RowBatch], RowCheck]]] = {
    Kind.PEOPLE: load_people,
    Kind.POSTS: load_posts,
    Kind.FOLLOWS: load_follows,
    Kind.EVENTS: load_events,
}
_PROGRESS_STEPS: Final = 1000


@dataclass(slots=True)
class FileReport:
    """What became of one file's rows."""

    file: str
    kind: str
    accepted: int
    duplicates: int
    rejected: int
    reasons: dict[str, int]
    """Reason -> rejected rows, the commonest first."""
    reject_file: str | None
    notes: list[str]
    seconds: float


@dataclass(slots=True)
class IngestReport:
    """What one ingest did."""

    dataset: str
    adapter: str
    files: list[FileReport] = field(default_factory=list)
    implied_people: int = 0
    """People that no people file names, made because other files name them."""
    bare_posts: bool = False
    """Posts were made of the events' post ids, without text."""
    events_in_log: int = 0
    seconds: float = 0.0


def open_dataset(
    folder: Path | None,
    files: Mapping[Kind, Path] | None = None,
    mapping: FileMapping | None = None,
    adapter: str = "auto",
) -> Dataset:
    """Open a known data set by its adapter, or plain files; nothing is loaded yet.

    `auto` recognises a folder by its files. NotFound or InvalidInput says what is missing.
    """
    if folder is not None and not files:
        known = open_adapter(folder, adapter)
        if known is not None:
            return known
    return plain_dataset(folder, files or {}, mapping)


def ingest(workspace: Workspace, dataset: Dataset, reporter: Reporter) -> IngestReport:
    """Load a data set; rows that do not fit go to reject files, the rest is kept.

    Repeating it adds nothing: people, posts and follows are known by their ids, events by their
    event id. When it returns, all that it reports as accepted is on disk.
    """
    start = perf_counter()
    workspace.note_bulk_load()  # before and after: a killed load has changed the catalog too
    loading = _begin(workspace, dataset)
    report = IngestReport(dataset.name, dataset.adapter, bare_posts=loading.bare_posts)
    for source in sorted(dataset.sources, key=lambda source: list(Kind).index(source.kind)):
        with reporter.progress(source.name, total=_PROGRESS_STEPS) as advance:
            report.files.append(_load_file(loading, source, advance))
    workspace.note_bulk_load()
    workspace.log.compact()
    _remember(workspace, dataset, loading)
    report.implied_people = loading.implied_people
    report.events_in_log = workspace.log.last_seq
    report.seconds = round(perf_counter() - start, 3)
    return report


def _begin(workspace: Workspace, dataset: Dataset) -> Loading:
    known = integers_of(workspace.catalog.people(), "person_id")
    forgotten = workspace.log.scan(types=[EventType.PERSON_ERASED], columns=["viewer_id"])
    erased = np.setdiff1d(integers_of(forgotten, "viewer_id"), known)
    posts = integers_of(workspace.catalog.posts(), "post_id")
    has_posts_file = any(source.kind is Kind.POSTS for source in dataset.sources)
    bare = not has_posts_file and (
        len(posts) == 0 or workspace.meta_get("posts") == '"from events"'
    )
    if bare:
        # Kept before the first bare post: a repeated ingest must not take them for real ones.
        workspace.meta_set("posts", '"from events"')
    elif has_posts_file:
        workspace.meta_set("posts", '"from a file"')
    newest = NewestOfPairs(workspace.log)
    return Loading(workspace, KnownIds(known), KnownIds(posts), bare, newest, erased)


def _load_file(loading: Loading, source: Source, advance: Callable[[int], None]) -> FileReport:
    start = perf_counter()
    state = FileState(source)
    load, shown = _LOADERS[source.kind], 0
    with closing(RejectFile(loading.workspace.home, source.name)) as rejects:
        for batch in source.batches:
            rejects.take(batch, load(loading, state, batch))
            steps = int(batch.done * _PROGRESS_STEPS) - shown
            advance(steps)
            shown += steps
    return FileReport(
        file=source.name,
        kind=source.kind.value,
        accepted=state.accepted,
        duplicates=state.duplicates,
        rejected=rejects.count,
        reasons=dict(rejects.reasons.most_common()),
        reject_file=str(rejects.path) if rejects.count else None,
        notes=state.notes,
        seconds=round(perf_counter() - start, 3),
    )


def _remember(workspace: Workspace, dataset: Dataset, loading: Loading) -> None:
    """Keep what is known of the data as a whole, for splits and for what may be claimed."""
    before = json.loads(workspace.meta_get("dataset") or "{}")
    facts = {
        "name": dataset.name,
        "adapter": dataset.adapter,
        "split": {"kind": dataset.split},
        "licence": dataset.licence,
    }
    # More people, posts or plain events do not undo what an adapter knows, such as its split.
    if before and (loading.accepted_events == 0 or dataset.adapter == "files"):
        facts = {name: before.get(name, fact) for name, fact in facts.items()}
    shown = bool(before.get("has_impressions")) or loading.exposure_events > 0
    notes = list(dict.fromkeys([*before.get("notes", []), *dataset.notes]))
    workspace.meta_set("dataset", json.dumps({**facts, "has_impressions": shown, "notes": notes}))
