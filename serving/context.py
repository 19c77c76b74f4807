"""The hydrated query: everything the stages may know about the viewer."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from contracts.policy import Policy
from contracts.query import FeedQuery
from features.history import Histories
from models.base import ItemHistories


@dataclass(slots=True)
class QueryContext:
    """A feed query with what the query hydrators added."""

    query: FeedQuery
    policy: Policy
    viewer_slot: int
    """Row of the viewer in the person table; -1 for a person we have never met."""
    log_seq: int
    """Event log position that the caches had applied when the query was hydrated."""
    histories: Histories
    """[1, H]: the viewer's recent positive actions, newest last."""
    history_version: int
    followees: NDArray[np.int64]
    """Person slots that the viewer follows."""
    blocked_authors: NDArray[np.int64]
    """Person slots blocked by the viewer, and those who block the viewer."""
    muted_authors: NDArray[np.int64]
    seen: NDArray[np.int64]
    """Post slots seen (impression or view) lately."""
    served: NDArray[np.int64]
    """Post slots served to the viewer within the policy's session window."""
    disliked: NDArray[np.int64]
    """Post slots that the viewer hid or reported lately."""
    language: int = -1
    item_histories: ItemHistories | None = None
    """The history as the families read it: item rows, each item once."""
    vectors: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """Family name to what `ServedFamily.fold_in` gave; a family that cannot speak is absent."""
    seeds: dict[int, int] = field(default_factory=dict)
    """Post slot that item-to-item found to the slot of the action that led there."""

    @property
    def recent_slots(self) -> NDArray[np.int64]:
        """Post slots of the history, newest first, padding dropped."""
        row = self.histories.post_slots[0]
        recent: NDArray[np.int64] = row[row >= 0][::-1]
        return recent
