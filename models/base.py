"""What every model is given and what it must answer: the words of this room.

A fitted model is immutable and small to load: no torch, scikit-learn or implicit is imported
here or by any model; they are needed to fit one (`training/recipes`), never to ask one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from contracts.events import EventType
from features.columns import Columns

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


class Family(StrEnum):
    """The retrieval families, in the column order of `contracts.policy.FAMILIES`."""

    COLLABORATIVE = "collaborative"
    CONTENT = "content"
    DEEP = "deep"
    NEIGHBOURS = "neighbours"


ACTION_STRENGTH: Final = {
    EventType.CLICK: 1.0,
    EventType.LIKE: 2.0,
    EventType.SAVE: 2.0,
    EventType.COMMENT: 3.0,
    EventType.REPOST: 3.0,
    EventType.SHARE: 3.0,
}
"""How much a positive action says, relative to a click; used to weigh histories and labels."""


def strength_table() -> FloatArray:
    """Spread `ACTION_STRENGTH` over the event numbers: float32 [max type + 1], 0 elsewhere."""
    table = np.zeros(max(EventType) + 1, dtype=np.float32)
    for event_type, strength in ACTION_STRENGTH.items():
        table[event_type] = strength
    return table


STRENGTH: Final = strength_table()


@dataclass(frozen=True, slots=True)
class PostContent:
    """What is known of posts without anybody's action; one entry a post in every field."""

    texts: Sequence[str]
    topics: Sequence[Sequence[int]]
    author_ids: IntArray
    """-1 where there is no author."""
    created_us: IntArray

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: IntArray) -> "PostContent":
        """Pick some posts."""
        index: list[int] = rows.tolist()
        return PostContent(
            [self.texts[row] for row in index],
            [self.topics[row] for row in index],
            self.author_ids[rows],
            self.created_us[rows],
        )


@dataclass(frozen=True, slots=True)
class Interactions(Columns):
    """Positive actions, sorted by (user, time); every array has shape [n]."""

    user_rows: IntArray
    item_rows: IntArray
    times_us: IntArray
    types: NDArray[np.int8]

    @property
    def weights(self) -> FloatArray:
        """Give the strength of each action, float32 [n]."""
        return STRENGTH[self.types]


@dataclass(frozen=True, slots=True)
class TrainingFrame:
    """All that a recipe may learn from; nothing in it is later than the training cut."""

    post_ids: IntArray
    """Post id of each item row, ascending: [n_items]."""
    n_users: int
    interactions: Interactions
    content: PostContent

    @property
    def n_items(self) -> int:
        """Count the items."""
        return len(self.post_ids)

    def known_content(self) -> PostContent:
        """Give the posts made by the newest action: later ones may be encoded, not learned from."""
        newest = self.interactions.times_us.max(initial=0)
        rows = np.flatnonzero(self.content.created_us <= newest)
        return self.content.take(rows) if len(rows) else self.content


@dataclass(frozen=True, slots=True)
class ItemHistories:
    """Recent positive actions of Q viewers as item rows, newest last, padded with -1 anywhere."""

    rows: IntArray
    """[Q, H]; -1 is no action. A row may lie beyond the bundle where `table` is given."""
    types: NDArray[np.int8]
    """[Q, H] `EventType`."""
    times_us: IntArray
    """[Q, H]."""
    now_us: IntArray
    """[Q]."""
    disliked: IntArray | None = None
    """[Q, D] item rows that the viewer hid or reported; -1 is none."""
    deduplicated: bool = False
    """True where each item stands once already: what `distinct` gives."""

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, index: slice | IntArray | BoolArray) -> "ItemHistories":
        """Pick some viewers."""
        disliked = None if self.disliked is None else self.disliked[index]
        return ItemHistories(
            self.rows[index],
            self.types[index],
            self.times_us[index],
            self.now_us[index],
            disliked,
            self.deduplicated,
        )

    def distinct(self) -> "ItemHistories":
        """Keep one action an item: its last place, its strongest type; shapes stay.

        A click and the like that follows it say one thing about one post.
        """
        if self.deduplicated:
            return self
        same = self.rows[:, :, None] == self.rows[:, None, :]  # [Q, H, H]
        later = np.triu(same, k=1).any(axis=2)
        strongest = np.where(same, STRENGTH[self.types][:, None, :], -1.0).argmax(axis=2)
        types = np.take_along_axis(self.types, strongest, axis=1)
        rows = np.where(later, -1, self.rows)
        return ItemHistories(rows, types, self.times_us, self.now_us, self.disliked, True)

    @classmethod
    def empty(cls, queries: int, now_us: int = 0) -> "ItemHistories":
        """Make histories of viewers who have done nothing."""
        return cls(
            np.full((queries, 1), -1, dtype=np.int64),
            np.zeros((queries, 1), dtype=np.int8),
            np.zeros((queries, 1), dtype=np.int64),
            np.full(queries, now_us, dtype=np.int64),
        )


@dataclass(frozen=True, slots=True)
class TrainingContext:
    """Where and how a recipe runs; never what it learns."""

    seed: int = 0
    threads: int = 2
    time_budget_seconds: float | None = None
    """Soft limit of an iterative recipe; it keeps the best state so far."""


class Scorer(Protocol):
    """What can score every item for viewers: any retrieval model, or a blend bound to families."""

    def score_all(self, histories: ItemHistories) -> FloatArray:
        """Score all items, float32 [Q, n_items]; NaN where it cannot say."""
        ...


@runtime_checkable
class RetrievalModel(Scorer, Protocol):
    """A fitted model that scores every item for a viewer, from the viewer's history alone."""

    @property
    def name(self) -> str:
        """Name the model, as the tables of results do."""
        ...

    def save(self, folder: Path) -> None:
        """Write the model into an existing, empty folder: JSON and arrays, no pickles."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        ...


@runtime_checkable
class VectorModel(RetrievalModel, Protocol):
    """A model whose score is a dot product, so that an index can search it."""

    def item_vectors(self) -> FloatArray:
        """Give the vectors of all items, [n_items, d]; NaN rows where there is none."""
        ...

    def with_vectors(self, vectors: FloatArray) -> Self:
        """Give the same model over another array [n_items, d] with the same values."""
        ...

    def viewer_vectors(
        self, histories: ItemHistories, table: FloatArray | None = None
    ) -> FloatArray:
        """Fold histories in, [Q, d]; NaN rows where nothing in the history has a vector.

        `table` [n_items + more, d] stands in for `item_vectors()` where posts were added since.
        """
        ...

    def encode_posts(self, content: PostContent) -> FloatArray:
        """Give vectors of new posts from their content, [m, d]; NaN rows where it cannot."""
        ...


def pair_scores(model: Scorer, histories: ItemHistories, rows: IntArray) -> FloatArray:
    """Score given items [Q, C] of each viewer: [Q, C], NaN where the model cannot say."""
    if isinstance(model, VectorModel):
        viewers = model.viewer_vectors(histories)
        products: FloatArray = np.einsum("qd,qcd->qc", viewers, model.item_vectors()[rows])
        return products
    return np.take_along_axis(model.score_all(histories), rows, axis=1)


def dot_scores(viewers: FloatArray, items: FloatArray) -> FloatArray:
    """Multiply viewer [Q, d] by item [n, d] vectors: [Q, n], NaN where either is missing."""
    known = np.isfinite(items[:, 0])
    # NaN inside a matrix product would slow BLAS down and spread; put it back afterwards.
    scores: FloatArray = viewers @ np.where(known[:, None], items, np.float32(0.0)).T
    scores[:, ~known] = np.nan
    return scores
