"""Tiny worlds with a known right answer."""

from collections.abc import Callable

import numpy as np
import pytest

from contracts.clock import DAY_US
from contracts.events import EventType
from models.base import Interactions, ItemHistories, PostContent, TrainingFrame
from training.dataset import NEVER_US, Dataset

SIZE = 24
START_US = 1_600_000_000_000_000

MakeHistories = Callable[..., ItemHistories]
MakeDataset = Callable[..., Dataset]


def content_of(texts: list[str], topics: list[list[int]], created_us: int = 0) -> PostContent:
    n = len(texts)
    return PostContent(
        texts, topics, np.full(n, -1, np.int64), np.full(n, created_us, dtype=np.int64)
    )


@pytest.fixture(scope="session")
def checkerboard() -> TrainingFrame:
    """Person u acts on item i where u + i is even, but for the diagonal: the right answer is u."""
    generator = np.random.Generator(np.random.PCG64(7))
    users, items = [], []
    for user in range(SIZE):
        mine = [i for i in range(SIZE) if (user + i) % 2 == 0 and i != user]
        users += [user] * len(mine)
        items += generator.permutation(mine).tolist()
    n = len(users)
    actions = Interactions(
        np.array(users, np.int64),
        np.array(items, np.int64),
        START_US + np.arange(n, dtype=np.int64) * 1_000_000,
        np.full(n, EventType.CLICK, dtype=np.int8),
    )
    words = ["red stripes of dawn", "blue dots at night"]
    content = content_of([words[i % 2] for i in range(SIZE)], [[i % 2 + 1] for i in range(SIZE)])
    return TrainingFrame(np.arange(100, 100 + SIZE, dtype=np.int64), SIZE, actions, content)


@pytest.fixture(scope="session")
def histories_of() -> MakeHistories:
    """Make histories from lists of item rows, newest last, one click a minute."""

    def make(*rows: list[int], event_type: EventType = EventType.CLICK) -> ItemHistories:
        width = max(1, *(len(row) for row in rows)) if rows else 1
        table = np.full((len(rows), width), -1, dtype=np.int64)
        for place, row in enumerate(rows):
            if row:
                table[place, width - len(row) :] = row
        times = START_US + np.arange(width, dtype=np.int64) * 60_000_000
        return ItemHistories(
            table,
            np.where(table >= 0, event_type, 0).astype(np.int8),
            np.broadcast_to(times, table.shape).copy(),
            np.full(len(rows), START_US + DAY_US, dtype=np.int64),
        )

    return make


@pytest.fixture(scope="session")
def dataset_of() -> MakeDataset:
    """Make a set from (user, item, time, type) rows."""

    def make(
        rows: list[tuple[int, int, int, EventType]],
        *,
        protocol: str = "time",
        n_items: int | None = None,
        created_us: list[int] | None = None,
        undone: dict[int, int] | None = None,
    ) -> Dataset:
        rows = sorted(rows, key=lambda r: (r[0], r[2]))
        n = n_items or max(r[1] for r in rows) + 1
        actions = Interactions(
            np.array([r[0] for r in rows], np.int64),
            np.array([r[1] for r in rows], np.int64),
            np.array([r[2] for r in rows], np.int64),
            np.array([r[3] for r in rows], np.int8),
        )
        content = content_of(["word"] * n, [[1]] * n)
        if created_us is not None:
            content.created_us[:] = created_us
        taken = np.full(len(rows), NEVER_US, dtype=np.int64)
        for place, when in (undone or {}).items():
            taken[place] = when
        none = np.zeros(0, dtype=np.int64)
        return Dataset(
            "tiny",
            protocol,  # type: ignore[arg-type]
            False,
            np.arange(n, dtype=np.int64) + 1000,
            np.arange(max(r[0] for r in rows) + 1, dtype=np.int64) + 10,
            actions,
            taken,
            Interactions(none, none, none, none.astype(np.int8)),
            content,
        )

    return make
