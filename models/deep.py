"""The deep family at request time: a small causal transformer over recent actions, in NumPy.

`training/recipes/two_tower.py` holds the same network in torch and fits it; a test holds the two
within 1e-5 of each other. NumPy here keeps torch (3 s, 250 MB) out of the serving process.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from contracts.events import EventType
from models.base import BoolArray, FloatArray, ItemHistories, PostContent, dot_scores
from models.storage import read_state, write_state
from models.text import TextEmbedder, with_prior

N_TYPES: Final = max(EventType) + 1
_MASKED: Final = np.float32(-1e9)
_CHUNK: Final = 256


class DeepConfig(BaseModel):
    """Shape of the two towers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dimensions: int = Field(default=64, ge=4)
    hidden: int = Field(default=128, ge=4)
    window: int = Field(default=50, ge=2)
    blocks: int = Field(default=1, ge=1, le=4)
    heads: int = Field(default=2, ge=1)


@dataclass(frozen=True)
class DeepModel:
    """Item tower from id and content, viewer tower from the recent actions.

    After SASRec (Kang and McAuley, ICDM 2018) with relative position biases (Shaw et al., NAACL
    2018) in place of absolute ones, so that a short history needs no padding.
    """

    name: str
    config: DeepConfig
    embedder: TextEmbedder
    topic_ids: NDArray[np.int64]
    """[topics], ascending."""
    weights: dict[str, FloatArray]
    vectors: FloatArray
    """[n_items, d + 1]: learned coordinates, then the appeal prior (log popularity)."""
    new_prior: float
    """What a new post's prior is: the median of the others."""

    def item_vectors(self) -> FloatArray:
        """Give the item tower's output, [n_items, d + 1]."""
        return self.vectors

    def encode_posts(self, content: PostContent) -> FloatArray:
        """Run the item tower without ids, [m, d + 1]: content and topics alone."""
        text = self.embedder.embed(content)
        known = np.isfinite(text[:, 0])
        shares = topic_shares(content, self.topic_ids)
        inputs = np.concatenate([np.where(known[:, None], text, 0.0), shares], axis=1)
        encoded = item_content(inputs.astype(np.float32), self.weights)
        encoded[~(known | shares.any(axis=1))] = np.nan
        return with_prior(encoded, np.float32(self.new_prior))

    def with_vectors(self, vectors: FloatArray) -> Self:
        """See `VectorModel`."""
        return replace(self, vectors=vectors)

    def viewer_vectors(
        self, histories: ItemHistories, table: FloatArray | None = None
    ) -> FloatArray:
        """Run the viewer tower on the newest `window` distinct actions, [Q, d + 1]."""
        table = self.vectors if table is None else table
        starts = range(0, len(histories), _CHUNK)
        parts = [self._tower(histories.take(slice(s, s + _CHUNK)), table) for s in starts]
        return np.concatenate(parts) if parts else np.empty((0, table.shape[1]), np.float32)

    def _tower(self, histories: ItemHistories, table: FloatArray) -> FloatArray:
        rows, types, valid = pack(histories, table, self.config.window)
        if not valid.any():
            return np.full((len(rows), table.shape[1]), np.nan, dtype=np.float32)
        inputs = table[rows, :-1] + self.weights["types"][types]  # [Q, L, d]
        inputs = np.where(valid[:, :, None], inputs, np.float32(0.0))
        vectors = run_tower(inputs, valid, self.weights, self.config)
        vectors[~valid[:, -1]] = np.nan
        return with_prior(vectors, self.weights["appeal"][0])

    def score_all(self, histories: ItemHistories) -> FloatArray:
        """Score all items, [Q, n_items]."""
        return dot_scores(self.viewer_vectors(histories), self.vectors)

    def save(self, folder: Path) -> None:
        """Write vocabulary, topics, weights and item vectors."""
        state: dict[str, Any] = {
            "name": self.name,
            "config": self.config.model_dump(),
            "terms": list(self.embedder.terms),
            "new_prior": self.new_prior,
        }
        named = {f"weight.{key}": array for key, array in self.weights.items()}
        arrays = {**self.embedder.arrays(), "topic_ids": self.topic_ids, "vectors": self.vectors}
        write_state(folder, state, {**arrays, **named})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        state, arrays = read_state(folder)
        config = DeepConfig.model_validate(state["config"])
        embedder = TextEmbedder.restore(state["terms"], arrays)
        prefix = "weight."
        weights = {k.removeprefix(prefix): a for k, a in arrays.items() if k.startswith(prefix)}
        topics, vectors = arrays["topic_ids"], arrays["vectors"]
        name, prior = state["name"], state["new_prior"]
        return cls(name, config, embedder, topics, weights, vectors, prior)


def topic_shares(content: PostContent, topic_ids: NDArray[np.int64]) -> FloatArray:
    """Spread each post over its known topics, rows adding up to 1 or 0: float32 [m, topics]."""
    shares = np.zeros((len(content), len(topic_ids)), dtype=np.float32)
    lengths = np.fromiter((len(t) for t in content.topics), np.int64, len(content))
    flat = np.fromiter((t for ts in content.topics for t in ts), np.int64, int(lengths.sum()))
    if not len(flat) or not len(topic_ids):
        return shares
    post = np.repeat(np.arange(len(content)), lengths)
    column = np.minimum(np.searchsorted(topic_ids, flat), len(topic_ids) - 1)
    known = topic_ids[column] == flat
    shares[post[known], column[known]] = 1.0
    shares /= np.maximum(shares.sum(axis=1, keepdims=True), np.float32(1.0))
    return shares


def item_content(inputs: FloatArray, weights: dict[str, FloatArray]) -> FloatArray:
    """Map content and topics [m, c] through the item tower's two layers: [m, d].

    In float64, rounded once at the end: two processes that met posts in other portions would
    differ in the last bits of float32 products, and their feeds with them.
    """
    first, second = (weights[f"item.{layer}.weight"].astype(np.float64).T for layer in (0, 2))
    hidden = np.maximum(inputs.astype(np.float64) @ first + weights["item.0.bias"], 0.0)
    encoded: FloatArray = (hidden @ second + weights["item.2.bias"]).astype(np.float32)
    return encoded


def pack(
    histories: ItemHistories, table: FloatArray, window: int
) -> tuple[NDArray[np.int64], NDArray[np.int8], BoolArray]:
    """Keep the newest distinct actions on items that have vectors, flush right: three [Q, L]."""
    distinct = histories.distinct()
    rows = np.maximum(distinct.rows, 0)
    usable = (distinct.rows >= 0) & np.isfinite(table[rows, 0])
    length = max(1, min(window, int(usable.sum(axis=1).max(initial=0))))
    order = np.argsort(usable, axis=1, kind="stable")[:, -length:]
    return (
        np.take_along_axis(rows, order, axis=1),
        np.take_along_axis(distinct.types, order, axis=1),
        np.take_along_axis(usable, order, axis=1),
    )


def run_tower(
    inputs: FloatArray, valid: BoolArray, weights: dict[str, FloatArray], config: DeepConfig
) -> FloatArray:
    """Run the transformer on inputs [Q, L, d] and give the newest position's output, [Q, d]."""
    length = inputs.shape[1]
    distance = np.arange(length)[:, None] - np.arange(length)[None, :]
    future = np.where(distance < 0, _MASKED, np.float32(0.0))
    padded = np.where(valid, np.float32(0.0), _MASKED)[:, None, None, :]
    x = inputs
    for block in range(config.blocks):
        w = {k.removeprefix(f"{block}."): a for k, a in weights.items() if k[:2] == f"{block}."}
        bias = w["bias"][:, np.maximum(distance, 0)] + future  # [heads, L, L]
        # Only the newest position leaves the last block, so only it asks there.
        asks = slice(-1, None) if block == config.blocks - 1 else slice(None)
        x = x[:, asks] + _attend(x, bias[:, asks] + padded, w, asks)
        normed = _norm(x, w["norm_ff.weight"], w["norm_ff.bias"])
        hidden = np.maximum(normed @ w["ff.0.weight"].T + w["ff.0.bias"], 0.0)
        x = x + (hidden @ w["ff.2.weight"].T + w["ff.2.bias"])
    newest: FloatArray = x[:, -1]
    return _norm(newest, weights["norm.weight"], weights["norm.bias"])


def _attend(x: FloatArray, bias: FloatArray, w: dict[str, FloatArray], asks: slice) -> FloatArray:
    normed = _norm(x, w["norm_att.weight"], w["norm_att.bias"])
    heads = w["bias"].shape[0]
    query = _split(normed[:, asks] @ w["query.weight"].T + w["query.bias"], heads)
    key = _split(normed @ w["key.weight"].T + w["key.bias"], heads)
    value = _split(normed @ w["value.weight"].T + w["value.bias"], heads)
    scale = np.float32(query.shape[-1] ** -0.5)
    logits = query @ key.transpose(0, 1, 3, 2) * scale + bias  # [Q, heads, asks, L]
    logits -= logits.max(axis=-1, keepdims=True)
    share = np.exp(logits)
    share /= share.sum(axis=-1, keepdims=True)
    mixed = (share @ value).transpose(0, 2, 1, 3)  # [Q, asks, heads, d / heads]
    merged = mixed.reshape(mixed.shape[0], mixed.shape[1], -1)
    attended: FloatArray = merged @ w["out.weight"].T + w["out.bias"]
    return attended


def _split(x: FloatArray, heads: int) -> FloatArray:
    """Split [Q, L, d] into heads: [Q, heads, L, d / heads]."""
    return x.reshape(x.shape[0], x.shape[1], heads, -1).transpose(0, 2, 1, 3)


def _norm(x: FloatArray, gain: FloatArray, shift: FloatArray) -> FloatArray:
    """Normalise the last axis (Ba, Kiros, Hinton: Layer normalization, 2016)."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = np.square(centred).mean(axis=-1, keepdims=True)
    scaled: FloatArray = centred / np.sqrt(variance + np.float32(1e-5)) * gain + shift
    return scaled
