"""The LightGCN form of a set: `train.txt`, a line a person and their items; no order, no times.

Only the train lines are read: `test.txt` is what others have measured on (`headwater reproduce`).
Each pair is a click. Each person's items are put in an order drawn by chance, with made times as
for MovieLens-1M, so that a split by order is a random one; `known_assumed` is set.
"""

from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from contracts.errors import InvalidInput
from pipelines.ingestion.adapters.checksums import check_files
from pipelines.ingestion.adapters.ml_1m import ordered_times
from pipelines.ingestion.fields import nullable_times
from pipelines.ingestion.rows import Kind, Source
from pipelines.ingestion.sources import Dataset, batch_of

FILES: Final = ["train.txt", "test.txt"]
_SEED: Final = 0


def open_dataset(folder: Path) -> Dataset:
    """Open the train lines; NotFound or InvalidInput where the file is missing or differs."""
    notes = check_files(folder, FILES)
    pairs, lines = _pairs(folder / "train.txt")
    draw = np.random.Generator(np.random.PCG64(_SEED)).random(len(pairs))
    order = np.lexsort((draw, pairs[:, 0]))
    pairs, lines = pairs[order], lines[order]
    events = batch_of(
        {
            "viewer_id": pa.array(pairs[:, 0]).cast(pa.string()),
            "post_id": pa.array(pairs[:, 1]).cast(pa.string()),
            "type": pa.repeat(pa.scalar("click"), len(pairs)),
            "event_time": nullable_times(ordered_times(pairs[:, 0])),
        },
        lines.tolist(),
    )
    return Dataset(
        name=folder.resolve().name,
        adapter="lightgcn",
        sources=[Source(Kind.EVENTS, "train.txt", [events])],
        split="order",
        notes=["the order of each person's items is drawn by chance, and times are made", *notes],
    )


def _pairs(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read pairs of person and item, [n, 2], and the line of each, [n]."""
    people: list[np.ndarray] = []
    items: list[np.ndarray] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            person, *rest = np.array(line.split(), dtype=np.int64)
        except ValueError:
            msg = f"{path}, line {number}: {line[:40]!r} is not a person and item numbers"
            raise InvalidInput(msg, hint="get the file again") from None
        people.append(np.full(len(rest), person))
        items.append(np.array(rest, dtype=np.int64))
    lengths = np.array([len(own) for own in items], dtype=np.int64)
    pairs = np.stack([np.concatenate(people), np.concatenate(items)], axis=1)
    return pairs, np.repeat(np.arange(1, len(lengths) + 1), lengths)
