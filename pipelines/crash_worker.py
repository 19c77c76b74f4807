"""The process that the crash test kills: it writes, and says each acknowledgement on a line.

Run as `python -m pipelines.crash_worker MODE HOME ARGUMENT`; prints `ready`, then event ids or
counts that are on disk.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from contracts.events import EVENT_SCHEMA, UTC_US, EventType
from features.workspace import Workspace
from pipelines.console import Advance, Reporter
from pipelines.ingestion.ingest import ingest, open_dataset
from pipelines.ingestion.rows import Kind

_START_US: Final = 1_700_000_000_000_000
_MANY: Final = 1_000_000_000


def events_of(ids: np.ndarray) -> pa.Table:
    """Make one like an id, a minute apart, so that they spread over months."""
    times = pa.array(_START_US + (ids % 200_000) * 60_000_000, pa.int64()).cast(UTC_US)
    columns = {field.name: pa.nulls(len(ids), field.type) for field in EVENT_SCHEMA}
    columns |= {
        "event_id": pa.array(ids),
        "type": pa.array(np.full(len(ids), EventType.LIKE, dtype=np.int8)),
        "viewer_id": pa.array(ids % 97 + 1),
        "post_id": pa.array(ids % 89 + 1),
        "event_time": times,
        "known_time": times,
        "known_assumed": pa.array(np.ones(len(ids), dtype=np.bool_)),
    }
    return pa.table(columns, schema=EVENT_SCHEMA)


def append_for_ever(home: Path, first: int) -> None:
    """Append few events at a time, as an API would; each line: first id, number."""
    with Workspace.open(home) as workspace:
        for step in range(_MANY):
            size = step % 7 + 1
            workspace.log.append(events_of(np.arange(first, first + size)))
            _acknowledge(step, first, size)
            first += size
            if step % 25 == 24:
                workspace.log.compact()


def bulk_for_ever(home: Path, first: int) -> None:
    """Append many events at a time to sealed segments; each line: first id, number."""
    with Workspace.open(home) as workspace:
        for step in range(_MANY):
            size = 5_000
            workspace.log.append_bulk(events_of(np.arange(first, first + size)))
            _acknowledge(step, first, size)
            first += size
            if step % 5 == 4:
                workspace.log.compact()


@dataclass(slots=True)
class _Acknowledging(Reporter):
    """Says after each batch how many events are on disk."""

    workspace: Workspace | None = None

    @contextmanager
    def progress(self, label: str, total: int | None = None) -> Iterator[Advance]:
        del label, total

        def advance(steps: int = 1, *, total: int | None = None) -> None:
            del steps, total
            if self.workspace is not None:
                _say(f"{self.workspace.log.last_seq}")

        yield advance


def ingest_file(home: Path, file: Path) -> None:
    """Ingest a file of events; each line: events on disk. `done` at the end."""
    with Workspace.open(home) as workspace:
        _say("ready")
        reporter = _Acknowledging(as_json=True, workspace=workspace)
        ingest(workspace, open_dataset(None, {Kind.EVENTS: file}), reporter)
    _say("done")


def _acknowledge(step: int, first: int, size: int) -> None:
    if step == 0:  # the first write loads libraries: the clock of the kill starts after it
        _say("ready")
    _say(f"{first} {size}")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(mode: str, home: str, argument: str) -> None:
    """Run one mode: append, bulk or ingest."""
    if mode == "append":
        append_for_ever(Path(home), int(argument))
    elif mode == "bulk":
        bulk_for_ever(Path(home), int(argument))
    else:
        ingest_file(Path(home), Path(argument))


if __name__ == "__main__":
    main(*sys.argv[1:])
