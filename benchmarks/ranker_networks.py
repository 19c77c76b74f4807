"""Networks compared with the ranker's own: in torch to fit, in NumPy to serve.

All take the same inputs [n, 2F], start at the heads' priors and keep the linear path past the
trunk, so that what differs is the trunk. NumPy forward passes take members one behind the other
(weights [m, in, out], biases [m, 1, out]) and give mean logits [n, A].
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear, relu

from models.base import FloatArray, TrainingContext
from models.ranker import EnsembleRanker, RankerConfig
from training.recipes.ranker import Build, Heads, RankerRecipeConfig, RankerRows, fit_ranker

Weights = dict[str, FloatArray]


class Variant(NamedTuple):
    """A network: how to build it in torch and how to run it in NumPy."""

    name: str
    hidden: int
    build: Build = Heads
    logits: Callable[[Weights, FloatArray], FloatArray] | None = None
    """None: the product's own forward pass."""
    rates: tuple[float, ...] = (1e-3, 3e-3)
    """Learning rates that it may choose from."""
    members: int = RankerConfig().members

    def fit(self, rows: RankerRows, rate: float, seed: int) -> tuple[EnsembleRanker, float]:
        """Fit, and give the score of the people who stopped it too."""
        shape = RankerConfig(hidden=self.hidden, members=self.members)
        config = RankerRecipeConfig(learning_rate=rate, shape=shape)
        ranker, reports = fit_ranker(rows, config, TrainingContext(seed, 1), self.build)
        if self.logits is not None:  # all else of serving stays: blocks of 256, scaling, priors
            vars(ranker)["_logits"] = partial(self.logits, ranker.weights)
        return ranker, float(np.mean([max(report.scores) for report in reports]))


class Ends(nn.Module):
    """One head an action on a trunk, and the linear path past it, as in the product."""

    def __init__(self, width: int, inner: int, prior: FloatArray) -> None:
        super().__init__()
        self.head, self.skip = (
            nn.Linear(inner, len(prior)),
            nn.Linear(width, len(prior), bias=False),
        )
        self.head.bias.data.copy_(torch.from_numpy(prior))
        self.skip.weight.data.zero_()

    def forward(self, trunk: Tensor, x: Tensor) -> Tensor:
        """Map trunk [n, inner] and inputs [n, 2F] to logits [n, A]."""
        return self.head(trunk) + self.skip(x)


class Crossed(nn.Module):
    """DCN-V2 (Wang et al., WWW 2021), parallel: two low-rank cross layers beside a deep trunk."""

    def __init__(self, rank: int, width: int, hidden: int, prior: FloatArray, drop: float) -> None:
        super().__init__()
        self.down = nn.ModuleList(nn.Linear(width, rank, bias=False) for _ in range(2))
        self.up = nn.ModuleList(nn.Linear(rank, width) for _ in range(2))
        self.first, self.second = nn.Linear(width, hidden), nn.Linear(hidden, hidden)
        self.ends, self.drop = Ends(width, hidden, prior), nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        """Map inputs [n, 2F] to logits [n, A]: x' = x0 * (U V x + b) + x, twice."""
        crossed = x
        for down, up in zip(self.down, self.up, strict=True):
            crossed = x * up(down(crossed)) + crossed
        deep = self.drop(relu(self.second(self.drop(relu(self.first(x))))))
        return self.ends(deep, crossed)


def crossed_logits(w: Weights, x: FloatArray) -> FloatArray:
    """Run `Crossed`."""
    crossed = x[None]
    for k in "01":
        low = crossed @ w[f"down.{k}.weight"]
        crossed = x * (low @ w[f"up.{k}.weight"] + w[f"up.{k}.bias"]) + crossed
    deep = _relu(_layer(w, "second", _relu(_layer(w, "first", x))))
    return (_layer(w, "ends.head", deep) + crossed @ w["ends.skip.weight"]).mean(axis=0)


class Masked(nn.Module):
    """MaskNet (Wang et al., 2021), serial: two blocks whose inputs a mask of all inputs scales."""

    def __init__(self, inner: int, width: int, hidden: int, prior: FloatArray, drop: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.ask1, self.mask1 = nn.Linear(width, inner), nn.Linear(inner, width)
        self.ask2, self.mask2 = nn.Linear(width, inner), nn.Linear(inner, hidden)
        self.first, self.norm1 = nn.Linear(width, hidden), nn.LayerNorm(hidden)
        self.second, self.norm2 = nn.Linear(hidden, hidden), nn.LayerNorm(hidden)
        self.ends, self.drop = Ends(width, hidden, prior), nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        """Map inputs [n, 2F] to logits [n, A]."""
        masked = self.norm(x) * self.mask1(relu(self.ask1(x)))
        hidden = self.drop(relu(self.norm1(self.first(masked))))
        masked = hidden * self.mask2(relu(self.ask2(x)))
        return self.ends(self.drop(relu(self.norm2(self.second(masked)))), x)


def masked_logits(w: Weights, x: FloatArray) -> FloatArray:
    """Run `Masked`."""
    masked = _norm(w, "norm", x[None]) * _layer(w, "mask1", _relu(_layer(w, "ask1", x)))
    hidden = _relu(_norm(w, "norm1", _layer(w, "first", masked)))
    masked = hidden * _layer(w, "mask2", _relu(_layer(w, "ask2", x)))
    hidden = _relu(_norm(w, "norm2", _layer(w, "second", masked)))
    return _layer(w, "ends.head", hidden).mean(axis=0) + x @ w["ends.skip.weight"].mean(axis=0)


class Experts(nn.Module):
    """MMoE (Ma et al., KDD 2018): a softmax gate an action over shared experts."""

    def __init__(self, count: int, width: int, hidden: int, prior: FloatArray, drop: float) -> None:
        super().__init__()
        self.count, self.drop = count, nn.Dropout(drop)
        self.expert, self.gate = (
            nn.Linear(width, count * hidden),
            nn.Linear(width, count * len(prior)),
        )
        self.ends = Ends(width, hidden, prior)

    def forward(self, x: Tensor) -> Tensor:
        """Map inputs [n, 2F] to logits [n, A]: each head reads its own mixture of experts."""
        read = linear(
            self.drop(relu(self.expert(x))).unflatten(1, (self.count, -1)), self.ends.head.weight
        )
        gates = self.gate(x).reshape(read.shape).softmax(dim=1)
        return (gates * read).sum(dim=1) + self.ends.head.bias + self.ends.skip(x)


def experts_logits(w: Weights, x: FloatArray) -> FloatArray:
    """Run `Experts`; heads before mixing, so that all is one product a member."""
    head, skip = w["ends.head.weight"], w["ends.skip.weight"].mean(axis=0)
    expert = _relu(_layer(w, "expert", x))
    read = expert.reshape(len(head), -1, head.shape[1]) @ head
    read = read.reshape(len(head), len(x), -1, head.shape[2])
    gates = _layer(w, "gate", x).reshape(read.shape)
    gates = np.exp(gates - gates.max(axis=2, keepdims=True))
    mixed = (gates * read).sum(axis=2) / gates.sum(axis=2)
    return (mixed + w["ends.head.bias"]).mean(axis=0) + x @ skip


def _layer(w: Weights, name: str, x: FloatArray) -> FloatArray:
    return x @ w[f"{name}.weight"] + w[f"{name}.bias"]


def _norm(w: Weights, name: str, x: FloatArray) -> FloatArray:
    centred = x - x.mean(axis=-1, keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + np.float32(1e-5))
    return centred / spread * w[f"{name}.weight"] + w[f"{name}.bias"]


def _relu(x: FloatArray) -> FloatArray:
    return np.maximum(x, np.float32(0.0), out=x)


VARIANTS = (
    Variant("present", 32, rates=(3e-3,)),
    Variant("DCNv2", 22, partial(Crossed, 4), crossed_logits),
    Variant("MaskNet", 17, partial(Masked, 7), masked_logits),
    Variant("MMoE", 6, partial(Experts, 3), experts_logits),
    Variant("present, larger", 80),
    Variant("DCNv2, larger", 56, partial(Crossed, 16), crossed_logits),
    Variant("MaskNet, larger", 52, partial(Masked, 20), masked_logits),
    Variant("MMoE, larger", 16, partial(Experts, 6), experts_logits),
    Variant("present, 48 wide", 48),
    Variant("present, rate 0.001", 32, rates=(1e-3,)),
    Variant("present, 1 member", 32, rates=(3e-3,), members=1),
    Variant("present, 3 members", 32, rates=(3e-3,), members=3),
)
