"""Tiny worlds with a known right answer."""

from collections.abc import Callable

import numpy as np
import pytest

from contracts.events import EventType
from models.base import Interactions, ItemHistories, PostContent, TrainingFrame
from training.dataset import NEVER_US, Dataset
from training.recipes import laws

MakeHistories = Callable[..., ItemHistories]
MakeDataset = Callable[..., Dataset]


def content_of(texts: list[str], topics: list[list[int]], created_us: int = 0) -> PostContent:
    n = len(texts)
    return PostContent(
        texts, topics, np.full(n, -1, np.int64), np.full(n, created_us, dtype=np.int64)
    )


@pytest.fixture(scope="session")
def checkerboard() -> TrainingFrame:
    return laws.checkerboard()


@pytest.fixture(scope="session")
def histories_of() -> MakeHistories:
    return laws.histories_of


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
