"""The process that the crash test kills: it writes, and says each acknowledgement on a line.

Run as `python -m pipelines.crash_worker MODE HOME ARGUMENT`; prints `ready`, then event ids or
counts that are on disk.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from contracts.events import EventType
from features.workspace import Workspace
from feed_api.platform.rows import EventRow, event_table
from pipelines.console import Advance, Reporter
from pipelines.ingestion.ingest import ingest, open_dataset
from pipelines.ingestion.rows import Kind

_START_US: Final = 1_700_000_000_000_000


def events_of(ids: np.ndarray) -> pa.Table:
    """Make one like an id, a minute apart, so that they spread over months."""
    rows = []
    for k in ids.tolist():
        at = _START_US + k % 200_000 * 60_000_000
        rows.append(EventRow(k, EventType.LIKE, k % 97 + 1, k % 89 + 1, None, at, at, True))
    return event_table(rows)


def write_for_ever(home: Path, first: int, *, bulk: bool) -> None:
    """Append few events at a time, as an API would, or many; each line: first id, number."""
    with Workspace.open(home) as workspace:
        append = workspace.log.append_bulk if bulk else workspace.log.append
        for step in count():
            size = 5_000 if bulk else step % 7 + 1
            append(events_of(np.arange(first, first + size)))
            if step == 0:  # the first write loads libraries: the clock of the kill starts after it
                _say("ready")
            _say(f"{first} {size}")
            first += size
            if (step + 1) % (5 if bulk else 25) == 0:
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


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(mode: str, home: str, argument: str) -> None:
    """Run one mode: append, bulk or ingest."""
    if mode == "ingest":
        ingest_file(Path(home), Path(argument))
    else:
        write_for_ever(Path(home), int(argument), bulk=mode == "bulk")


if __name__ == "__main__":
    main(*sys.argv[1:])
