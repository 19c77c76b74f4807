"""What people would do without a join and a cache of their own: ask Feast."""

from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import numpy as np

from benchmarks.features import (
    ALL_40,
    CANDIDATES,
    HOME,
    NARROW,
    NOW_US,
    QUICK,
    Row,
    Size,
    Watch,
    joined_path,
    joined_row,
    labels_of,
    load_cache,
    stage_arguments,
    timed,
    write_row,
)
from benchmarks.measure import percentiles
from features.parity import cached_values, compared, online_parity
from features.store import FeastStore, open_store
from features.views import AUTHOR_VIEW, POST_VIEW
from features.workspace import Workspace

_REPEATS = 15


def main() -> None:
    """Run one stage of `benchmarks.features`."""
    arguments = stage_arguments(__doc__, STAGES, required=True)
    size = QUICK if arguments.quick else Size()
    write_row(arguments.stage, STAGES[arguments.stage](size))


def feast_row(home: Path, candidates: int) -> dict[str, Any]:
    """Time Feast SDK reads of all post columns of `candidates` posts, one process, no HTTP."""
    with Workspace.open(home, read_only=True) as workspace:
        ids = workspace.catalog.posts().column("post_id").to_numpy()
        store = open_store(workspace)
        seconds = []
        for repeat in range(_REPEATS):
            chosen = np.random.default_rng(repeat).choice(ids, candidates, replace=False)
            started = perf_counter()
            store.online_read(POST_VIEW, chosen)
            seconds.append(perf_counter() - started)
    return {
        "target": f"Feast SDK read, {candidates} posts x {len(POST_VIEW.columns)} columns",
        "rate_per_second": None,
        **percentiles(seconds),
        "errors": 0,
    }


def _feast_join(size: Size) -> Row:
    """Join the same labels, a retrieval a view; compare with what our join gave."""
    del size
    store = FeastStore(NARROW, views=ALL_40)
    store.apply()
    labels, watch = [labels_of(view) for view in ALL_40], Watch()
    theirs = [store.historical(v, *each) for v, each in zip(ALL_40, labels, strict=True)]
    row = joined_row("Feast (DuckDB), the same", theirs, watch)
    pairs = zip((np.load(joined_path(view)) for view in ALL_40), theirs, strict=True)
    return {**row, "unequal": sum(compared(*pair, tolerance=0.0).unequal for pair in pairs)}


def _feast_read(size: Size) -> Row:
    with Workspace.open(HOME, read_only=True) as workspace:
        store = open_store(workspace)
    return timed(
        "Feast SDK online, stored columns of candidates",
        lambda posts, authors, _: np.hstack(
            [store.online_read(POST_VIEW, posts), store.online_read(AUTHOR_VIEW, authors)]
        ),
        size.feast_reads,
    )


def _cache_read(size: Size) -> Row:
    cache = load_cache()
    return timed(
        "our cache, the same columns as of now",
        lambda posts, authors, _: np.hstack(
            [
                cached_values(cache, POST_VIEW, posts, NOW_US),
                cached_values(cache, AUTHOR_VIEW, authors, NOW_US),
            ]
        ),
        size.cache_reads,
    )


def _online_parity(size: Size) -> Row:
    """Compare 1,000 entities a view and a draw; the posts are those of the first timed draws."""
    del size
    with Workspace.open(HOME, read_only=True) as workspace:
        store = open_store(workspace)
        found = [online_parity(workspace, store, entities=CANDIDATES, seed=s) for s in range(3)]
    parts = [part for views in found for part in views.values()]
    total = {name: sum(getattr(p, name) for p in parts) for name in ("rows", "values", "unequal")}
    return {"what": "our cache compared with Feast online, 3 views, 3 draws", **total}


STAGES: Final[dict[str, Callable[[Size], Row]]] = {
    "feast join": _feast_join,
    "feast read": _feast_read,
    "cache read": _cache_read,
    "online parity": _online_parity,
}


if __name__ == "__main__":
    main()
