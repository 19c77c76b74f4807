"""The LightGCN form of a set: `train.txt`, a line a person and their items; no order, no times.

Only the train lines are read: `test.txt` is what others have measured on (`headwater reproduce`).
Each pair is a click. Each person's items are put in an order drawn by chance, with made times as
for MovieLens-1M, so that a split by order is a random one; `known_assumed` is set.
"""

from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from pipelines.ingestion.adapters.checksums import check_files
from pipelines.ingestion.adapters.ml_1m import ordered_times
from pipelines.ingestion.fields import nullable_times
from pipelines.ingestion.rows import Kind, Source
from pipelines.ingestion.sources import Dataset, batch_of
from training.protocols.split import read_lightgcn

FILES: Final = ["train.txt", "test.txt"]
_SEED: Final = 0


def open_dataset(folder: Path) -> Dataset:
    """Open the train lines; NotFound or InvalidInput where the file is missing or differs."""
    notes = check_files(folder, FILES)
    pairs, lines = read_lightgcn(folder / "train.txt")
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
