"""The ensemble ranker: one network, one prediction an action, a candidate at a time."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from contracts.policy import ACTIONS, Action
from models.base import FloatArray
from models.storage import read_state, write_state

BLOCK: Final = 256
"""Rows a forward pass: float32 sums differ with the shape of a product, so it never changes."""
_DWELL: Final = ACTIONS.index(Action.DWELL)
LONGEST_LOG_SECONDS: Final = 8.0
"""No more than 50 minutes of dwell are learned or predicted."""


class RankerConfig(BaseModel):
    """Shape of the network."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hidden: int = Field(default=32, ge=2)
    members: int = Field(default=3, ge=1, le=8)
    """Networks from different seeds whose logits are averaged."""
    input_bound: float = Field(default=6.0, gt=0)
    """Standardised features are clipped to plus and minus this."""


@dataclass(frozen=True)
class EnsembleRanker:
    """Shared trunk, one head an action (Caruana: Multitask learning, 1997), in NumPy.

    Inputs are float16-rounded features [n, F]; a missing one (NaN) becomes the mean and sets its
    null indicator. Heads whose action was never seen in training predict their prior.
    """

    config: RankerConfig
    mean: FloatArray
    """[F]."""
    scale: FloatArray
    """[F], positive."""
    weights: dict[str, FloatArray]
    """`first.weight` [m, 2F, h], `second.weight` [m, h, h], `head.weight` [m, h, A],
    `skip.weight` [m, 2F, A] and the biases [m, 1, ...]."""
    trained: NDArray[np.bool_]
    """[A]: which heads had data."""
    prior: FloatArray
    """[A]: what an untrained head answers."""

    @property
    def n_features(self) -> int:
        """Count the input columns."""
        return len(self.mean)

    def predict(self, features: NDArray[np.floating]) -> FloatArray:
        """Predict probabilities, and expected seconds for dwell: float32 [n, len(ACTIONS)].

        A row's answer never depends on the other rows: blocks are padded to one fixed shape.
        """
        n = len(features)
        if n == 0:
            return np.empty((0, len(ACTIONS)), dtype=np.float32)
        padded = np.zeros((-(-n // BLOCK) * BLOCK, self.n_features), dtype=np.float32)
        padded[:n] = features.astype(np.float16)
        # Element by element a row stands alone already; only products need the fixed shape.
        x = prepare(padded, self.mean, self.scale, self.config.input_bound)  # [padded n, 2F]
        blocks = [self._logits(x[s : s + BLOCK]) for s in range(0, len(x), BLOCK)]
        answers = activate(np.concatenate(blocks)[:n])
        answers[:, ~self.trained] = self.prior[~self.trained]
        return answers

    def _logits(self, x: FloatArray) -> FloatArray:
        """Run one block [256, 2F] through all members: their mean logits [256, A]."""
        flat, w = self._flat, self.weights
        members = len(w["second.weight"])
        hidden = _rectify(x @ flat["first"] + flat["first.bias"])  # [256, m * h]
        split = hidden.reshape(BLOCK, members, -1).transpose(1, 0, 2)
        split = _rectify(split @ w["second.weight"] + w["second.bias"])  # [m, 256, h]
        hidden = split.transpose(1, 0, 2).reshape(BLOCK, -1)
        logits: FloatArray = hidden @ flat["head"] + x @ flat["skip"] + flat["head.bias"]
        return logits

    @cached_property
    def _flat(self) -> dict[str, FloatArray]:
        """Lay the members side by side, so that a layer is one product; logits are their mean."""
        w, mean = self.weights, np.float32(1.0 / len(self.weights["head.weight"]))
        first = w["first.weight"].transpose(1, 0, 2)
        return {
            "first": np.ascontiguousarray(first.reshape(first.shape[0], -1)),
            "first.bias": w["first.bias"].reshape(1, -1),
            "head": np.ascontiguousarray(w["head.weight"].reshape(-1, len(ACTIONS)) * mean),
            "head.bias": w["head.bias"].mean(axis=0),
            "skip": np.ascontiguousarray(w["skip.weight"].mean(axis=0)),
        }

    def save(self, folder: Path) -> None:
        """Write scaling, weights and priors."""
        arrays = {
            "mean": self.mean,
            "scale": self.scale,
            "trained": self.trained,
            "prior": self.prior,
            **{f"weight.{key}": array for key, array in self.weights.items()},
        }
        state = {"config": self.config.model_dump(), "actions": [a.value for a in ACTIONS]}
        write_state(folder, state, arrays)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        state, arrays = read_state(folder)
        prefix = "weight."
        weights = {k.removeprefix(prefix): a for k, a in arrays.items() if k.startswith(prefix)}
        config = RankerConfig.model_validate(state["config"])
        return cls(
            config, arrays["mean"], arrays["scale"], weights, arrays["trained"], arrays["prior"]
        )


def prepare(features: FloatArray, mean: FloatArray, scale: FloatArray, bound: float) -> FloatArray:
    """Standardise and clip features [n, F], nulls to the mean, indicators behind: [n, 2F]."""
    width = features.shape[1]
    ready = np.empty((len(features), 2 * width), dtype=np.float32)
    missing = np.isnan(features)
    x = ready[:, :width]
    np.subtract(features, mean, out=x)
    np.divide(x, scale, out=x)
    np.clip(x, -bound, bound, out=x)
    x[missing] = 0.0
    ready[:, width:] = missing
    return ready


def activate(logits: FloatArray) -> FloatArray:
    """Turn logits [n, A] into probabilities, and into seconds for the dwell head."""
    answers = 1.0 / (1.0 + np.exp(-np.clip(logits, -30.0, 30.0)))
    seconds = np.expm1(np.clip(logits[:, _DWELL], 0.0, LONGEST_LOG_SECONDS))
    answers[:, _DWELL] = seconds
    return answers.astype(np.float32)


def _rectify(x: FloatArray) -> FloatArray:
    return np.maximum(x, np.float32(0.0), out=x)
