"""MovieLens-1M in the SASRec form: each person's movies in order, without times or ratings.

Each line is a click. Times are made: a person's last action lies at one common end, each earlier
one an hour before the next. So the last actions of all people are simultaneous, and what lies
strictly before that moment is exactly the training part of the usual leave-one-out split. They say
nothing about what was popular when; `known_assumed` is set, and the split is by order.
"""

from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from contracts.clock import HOUR_US
from pipelines.ingestion.adapters.checksums import check_files
from pipelines.ingestion.adapters.movielens import LICENCE, created_us, first_times
from pipelines.ingestion.fields import nullable_times
from pipelines.ingestion.rows import Kind, RowBatch, Source
from pipelines.ingestion.sources import Dataset, batch_of

FILES: Final = [
    "ml-1m.txt",
    "movies.dat",
    "users.dat",
    "sas_to_original_items.txt",
    "sas_to_original_users.txt",
]
END_US: Final = 1_046_476_800_000_000
"""2003-03-01, when the set was published: the time of every person's last action."""


def open_dataset(folder: Path) -> Dataset:
    """Open the five files; NotFound or InvalidInput where one is missing or differs."""
    notes = check_files(folder, FILES)
    pairs = np.loadtxt(folder / "ml-1m.txt", dtype=np.int64)
    times = ordered_times(pairs[:, 0])
    return Dataset(
        name="ml-1m",
        adapter="ml-1m",
        sources=[
            Source(Kind.PEOPLE, "users.dat", [_people(folder)]),
            Source(Kind.POSTS, "movies.dat", [_posts(folder, pairs[:, 1], times)]),
            Source(Kind.EVENTS, "ml-1m.txt", [_events(pairs, times)]),
        ],
        split="order",
        licence=LICENCE,
        notes=["times are made from each person's order", *notes],
    )


def ordered_times(people: np.ndarray) -> np.ndarray:
    """Give times [n] of actions [n] in file order: hourly, each person's last at END_US."""
    _, inverse, counts = np.unique(people, return_inverse=True, return_counts=True)
    order = np.argsort(inverse, kind="stable")
    starts = np.cumsum(counts) - counts
    place = np.empty(len(people), dtype=np.int64)
    place[order] = np.arange(len(people)) - np.repeat(starts, counts)
    return END_US - (counts[inverse] - 1 - place) * HOUR_US


def _originals(folder: Path, name: str) -> dict[str, str]:
    """Give original id -> id of the order file."""
    lines = (folder / name).read_text().splitlines()
    return {original: own for own, original in (line.split() for line in lines)}


def _records(folder: Path, name: str) -> list[list[str]]:
    lines = (folder / name).read_text(encoding="latin-1").splitlines()
    return [line.split("::") for line in lines]


def _people(folder: Path) -> RowBatch:
    own = _originals(folder, "sas_to_original_users.txt")
    rows = [(k, r) for k, r in enumerate(_records(folder, "users.dat"), 1) if r[0] in own]
    columns = {
        "person_id": [own[record[0]] for _, record in rows],
        "gender": [record[1] for _, record in rows],
        "age": [record[2] for _, record in rows],
        "occupation": [record[3] for _, record in rows],
        "zip_code": [record[4] for _, record in rows],
    }
    return batch_of(columns, [line for line, _ in rows])


def _posts(folder: Path, items: np.ndarray, times: np.ndarray) -> RowBatch:
    own = _originals(folder, "sas_to_original_items.txt")
    rows = [(k, r) for k, r in enumerate(_records(folder, "movies.dat"), 1) if r[0] in own]
    ids = [own[record[0]] for _, record in rows]
    row_of = np.full(int(items.max()) + 1, -1, dtype=np.int64)
    row_of[np.array(ids, dtype=np.int64)] = np.arange(len(ids))
    first = first_times(row_of[items], times, len(ids))
    titles = [record[1] for _, record in rows]
    columns = {
        "post_id": ids,
        "text": titles,
        "topics": [record[2] for _, record in rows],
        "created": nullable_times(created_us([_year(title) for title in titles], first)),
    }
    return batch_of(columns, [line for line, _ in rows])


def _year(title: str) -> int | None:
    """Read the year at the end of `Toy Story (1995)`."""
    year = title.rstrip().removesuffix(")")[-4:]
    return int(year) if year.isdigit() else None


def _events(pairs: np.ndarray, times: np.ndarray) -> RowBatch:
    columns = {
        "viewer_id": pa.array(pairs[:, 0]).cast(pa.string()),
        "post_id": pa.array(pairs[:, 1]).cast(pa.string()),
        "type": pa.repeat(pa.scalar("click"), len(pairs)),
        "event_time": nullable_times(times),
    }
    return batch_of(columns, range(1, len(pairs) + 1))
