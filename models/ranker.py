"""The ensemble ranker: one network, one prediction an action, a candidate at a time."""

from dataclasses import dataclass
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
_LONGEST_LOG_SECONDS: Final = 8.0


class RankerConfig(BaseModel):
    """Shape of the network."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hidden: int = Field(default=64, ge=2)
    members: int = Field(default=1, ge=1, le=8)
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
        padded = np.zeros((-(-n // BLOCK) * BLOCK, self.n_features), dtype=np.float32)
        padded[:n] = features.astype(np.float16)
        blocks = [self._forward(padded[s : s + BLOCK]) for s in range(0, len(padded), BLOCK)]
        if not blocks:
            return np.empty((0, len(ACTIONS)), dtype=np.float32)
        return np.concatenate(blocks)[:n]

    def _forward(self, block: FloatArray) -> FloatArray:
        x = prepare(block, self.mean, self.scale, self.config.input_bound)  # [256, 2F]
        w = self.weights
        hidden = np.maximum(x @ w["first.weight"] + w["first.bias"], 0.0)  # [m, 256, h]
        hidden = np.maximum(hidden @ w["second.weight"] + w["second.bias"], 0.0)
        logits = hidden @ w["head.weight"] + x @ w["skip.weight"] + w["head.bias"]
        answers = activate(logits.mean(axis=0))
        return np.where(self.trained, answers, self.prior)

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
    missing = np.isnan(features)
    x = np.clip((features - mean) / scale, -bound, bound)
    return np.concatenate([np.where(missing, 0.0, x), missing], axis=1).astype(np.float32)


def activate(logits: FloatArray) -> FloatArray:
    """Turn logits [n, A] into probabilities, and into seconds for the dwell head."""
    answers = 1.0 / (1.0 + np.exp(-np.clip(logits, -30.0, 30.0)))
    seconds = np.expm1(np.clip(logits[:, _DWELL], 0.0, _LONGEST_LOG_SECONDS))
    answers[:, _DWELL] = seconds
    return answers.astype(np.float32)
