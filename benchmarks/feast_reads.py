"""What people would do without a cache of their own: read candidates' features from Feast."""

from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.measure import percentiles
from features.store import open_store, read_online
from features.views import POST_VIEW
from features.workspace import Workspace

_REPEATS = 15


def feast_row(home: Path, candidates: int) -> dict[str, Any]:
    """Time Feast SDK reads of all post columns of `candidates` posts, one process, no HTTP."""
    with Workspace.open(home, read_only=True) as workspace:
        ids = workspace.catalog.posts().column("post_id").to_numpy()
        store = open_store(workspace)
        seconds = []
        for repeat in range(_REPEATS):
            chosen = np.random.default_rng(repeat).choice(ids, candidates, replace=False)
            started = perf_counter()
            read_online(store, POST_VIEW, chosen)
            seconds.append(perf_counter() - started)
    return {
        "target": f"Feast SDK read, {candidates} posts x {len(POST_VIEW.columns)} columns",
        "rate_per_second": None,
        **percentiles(seconds),
        "errors": 0,
    }
