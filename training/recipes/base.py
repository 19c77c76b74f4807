"""What a recipe is, and the user-item matrix that most of them start from."""

from typing import Protocol

import numpy as np
from pydantic import BaseModel
from scipy.sparse import csr_array

from models.base import FloatArray, Interactions, RetrievalModel, TrainingContext, TrainingFrame


class Recipe(Protocol):
    """Fit one model; the same frame, context and configuration give the same model."""

    @property
    def name(self) -> str:
        """Name the model, as the tables of results do."""
        ...

    @property
    def config(self) -> BaseModel:
        """Give the validated configuration."""
        ...

    def fit(self, frame: TrainingFrame, context: TrainingContext) -> RetrievalModel:
        """Learn from a frame; nothing outside the frame and the context is read."""
        ...


def user_item_matrix(frame: TrainingFrame) -> csr_array:
    """Spread interactions over [n_users, n_items], an action pair at its strongest type."""
    actions = frame.interactions
    flat = actions.user_rows * frame.n_items + actions.item_rows
    order = np.lexsort((actions.weights, flat))
    flat, weights = flat[order], actions.weights[order]
    last = np.append(flat[1:] != flat[:-1], True) if len(flat) else np.zeros(0, dtype=bool)
    users, items = np.divmod(flat[last], max(frame.n_items, 1))
    return csr_array((weights[last], (users, items)), shape=(frame.n_users, frame.n_items))


def item_counts(actions: Interactions, n_items: int) -> FloatArray:
    """Count the distinct people who acted on each item, [n_items]."""
    pairs = np.unique(np.stack([actions.item_rows, actions.user_rows]), axis=1)
    return np.bincount(pairs[0], minlength=n_items).astype(np.float32)
