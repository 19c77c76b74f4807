"""MovieLens-100K in RecBole's form: ratings with times, movies with genres and year, people.

A rating is a click, and from 4 on a like too; `value` is the rating. A movie is a post: its text is
the title, its topics the genres, created at the start of its year or at its first rating, whichever
is earlier.
"""

from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from pipelines.ingestion.adapters.checksums import check_files
from pipelines.ingestion.adapters.movielens import (
    LICENCE,
    created_us,
    first_times,
    rating_events,
)
from pipelines.ingestion.csv_rows import CsvRows
from pipelines.ingestion.fields import nullable_times
from pipelines.ingestion.rows import Kind, RowBatch, Source
from pipelines.ingestion.sources import Dataset, batch_of

FILES: Final = ["ml-100k.inter", "ml-100k.item", "ml-100k.user"]


def open_dataset(folder: Path) -> Dataset:
    """Open the three files; NotFound or InvalidInput where one is missing or differs."""
    notes = check_files(folder, FILES)
    ratings = _read(folder / "ml-100k.inter")
    movies = _read(folder / "ml-100k.item")
    people = _read(folder / "ml-100k.user")
    people.columns["person_id"] = people.columns.pop("user_id")
    return Dataset(
        name="ml-100k",
        adapter="ml-100k",
        sources=[
            Source(Kind.PEOPLE, "ml-100k.user", [people]),
            Source(Kind.POSTS, "ml-100k.item", [_posts(movies, ratings)]),
            Source(Kind.EVENTS, "ml-100k.inter", [_events(ratings)]),
        ],
        licence=LICENCE,
        notes=notes,
    )


def _read(path: Path) -> RowBatch:
    """Read a whole file; `name:type` columns lose their type."""
    batches = list(CsvRows(path).batches())
    columns = {
        name.split(":")[0]: pa.chunked_array([b.columns[name] for b in batches]).combine_chunks()
        for name in batches[0].columns
    }
    broken = [line for batch in batches for line in batch.broken]
    return RowBatch(columns, np.concatenate([b.lines for b in batches]), broken, 1.0)


def _posts(movies: RowBatch, ratings: RowBatch) -> RowBatch:
    row_of = {item: k for k, item in enumerate(movies.columns["item_id"].to_pylist())}
    rated = [row_of.get(item, -1) for item in ratings.columns["item_id"].to_pylist()]
    rows = np.array(rated, dtype=np.int64)
    times = ratings.columns["timestamp"].cast(pa.float64()).to_numpy() * 1e6
    known = rows >= 0
    first = first_times(rows[known], times.astype(np.int64)[known], len(movies.lines))
    years = [
        int(year) if year.isdigit() else None for year in movies.columns["release_year"].to_pylist()
    ]
    genres = [text.replace(" ", "|") for text in movies.columns["class"].to_pylist()]
    columns = {
        "post_id": movies.columns["item_id"],
        "text": movies.columns["movie_title"],
        "topics": pa.array(genres, pa.string()),
        "created": nullable_times(created_us(years, first)),
    }
    return RowBatch(columns, movies.lines, movies.broken, 1.0)


def _events(ratings: RowBatch) -> RowBatch:
    columns = {
        "viewer_id": ratings.columns["user_id"],
        "post_id": ratings.columns["item_id"],
        "event_time": ratings.columns["timestamp"],
    }
    values = ratings.columns["rating"].cast(pa.float64()).to_numpy()
    events, rows = rating_events(columns, values)
    batch = batch_of(events, ratings.lines[rows].tolist())
    batch.broken = ratings.broken
    return batch
