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
"""Rows a forward pass: what fits the cache."""
_INPUT_STEPS: Final = 2.0**19
_WEIGHT_STEPS: Final = 2.0**21
"""Inputs of a layer are multiples of 2^-19 and weights of 2^-21: a sum under 2^13 has at most the
53 bits of a float64, so it is exact, whatever the order in which a processor adds."""
_DWELL: Final = ACTIONS.index(Action.DWELL)
LONGEST_LOG_SECONDS: Final = 8.0
"""No more than 50 minutes of dwell are learned or predicted."""


Exact = NDArray[np.float64]


class RankerConfig(BaseModel):
    """Shape of the network."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hidden: int = Field(default=32, ge=2)
    members: int = Field(default=5, ge=1, le=8)
    """Networks from different seeds, each stopped by other people, whose logits are averaged."""
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

    def predict(self, features: NDArray[np.floating]) -> FloatArray:
        """Predict probabilities, and expected seconds for dwell: float32 [n, len(ACTIONS)].

        A row's answer depends on nothing but the row: not on the others, its place, or the kernel
        that multiplies, because every sum is exact.
        """
        n = len(features)
        if n == 0:
            return np.empty((0, len(ACTIONS)), dtype=np.float32)
        rounded = features.astype(np.float16).astype(np.float32)
        x = prepare(rounded, self.mean, self.scale, self.config.input_bound)  # [n, 2F]
        blocks = [self._logits(x[s : s + BLOCK]) for s in range(0, n, BLOCK)]
        answers = activate(np.concatenate(blocks).astype(np.float32))
        answers[:, ~self.trained] = self.prior[~self.trained]
        return answers

    def _logits(self, inputs: FloatArray) -> NDArray[np.floating]:
        """Run one block [b, 2F] through all members: their mean logits [b, A]."""
        w, x = self._exact, _on_steps(inputs.astype(np.float64))
        members = len(w["second"])
        hidden = _rectify(x @ w["first"] + w["first.bias"])  # [b, m * h]
        split = hidden.reshape(len(x), members, -1).transpose(1, 0, 2)
        split = _rectify(split @ w["second"] + w["second.bias"])  # [m, b, h]
        hidden = split.transpose(1, 0, 2).reshape(len(x), -1)
        logits: Exact = hidden @ w["head"] + x @ w["skip"] + w["head.bias"]
        return logits

    @cached_property
    def _exact(self) -> dict[str, Exact]:
        """Lay the members side by side, so that a layer is one product; logits are their mean."""
        w, members = self.weights, len(self.weights["head.weight"])
        first = w["first.weight"].transpose(1, 0, 2)
        flat = {
            "first": first.reshape(first.shape[0], -1),
            "first.bias": w["first.bias"].reshape(1, -1),
            "second": w["second.weight"],
            "second.bias": w["second.bias"],
            "head": w["head.weight"].reshape(-1, len(ACTIONS)) / members,
            "head.bias": w["head.bias"].mean(axis=0),
            "skip": w["skip.weight"].mean(axis=0),
        }
        return {
            name: np.rint(array.astype(np.float64) * _WEIGHT_STEPS) / _WEIGHT_STEPS
            for name, array in flat.items()
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


def _rectify(x: Exact) -> Exact:
    return _on_steps(np.maximum(x, 0.0, out=x))


def _on_steps(x: Exact) -> Exact:
    """Round to multiples of 2^-19, in place: next to the shift a float64 has no finer ones."""
    shift = 1.5 * 2.0**52 / _INPUT_STEPS
    x += shift
    x -= shift
    return x
