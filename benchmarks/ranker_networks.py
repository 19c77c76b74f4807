"""Networks compared with the ranker's own: in torch to fit, in NumPy to serve.

All take the same inputs [n, 2F], start at the heads' priors and keep the linear path past the
trunk, so that what differs is the trunk. NumPy forward passes take members one behind the other
(weights [m, in, out], biases [m, 1, out]) and give mean logits [n, A].
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from contracts.policy import ACTIONS
from models.base import FloatArray
from models.ranker import BLOCK, EnsembleRanker, RankerConfig, activate, prepare
from training.recipes.ranker import Build, Heads, Members

_A = len(ACTIONS)
Weights = dict[str, FloatArray]


@dataclass(frozen=True, slots=True)
class Variant:
    """A network: how to build it in torch and how to run it in NumPy."""

    name: str
    hidden: int
    build: Build
    logits: Callable[[Weights, FloatArray], FloatArray] | None = None
    """None: the product's own forward pass."""

    def predict(self, members: Members, features: np.ndarray) -> FloatArray:
        """Predict as `EnsembleRanker.predict` does: fixed blocks of padded rows, [n, A]."""
        m, config = members, RankerConfig(hidden=self.hidden)
        if self.logits is None:
            parts = (m.mean, m.scale, m.weights, m.trained, m.prior)
            return EnsembleRanker(config, *parts).predict(features)
        padded = np.zeros((-(-len(features) // BLOCK) * BLOCK, len(m.mean)), dtype=np.float32)
        padded[: len(features)] = features
        x = prepare(padded, m.mean, m.scale, config.input_bound)
        blocks = [self.logits(m.weights, x[s : s + BLOCK]) for s in range(0, len(x), BLOCK)]
        answers = activate(np.concatenate(blocks)[: len(features)])
        answers[:, ~m.trained] = m.prior[~m.trained]
        return answers


class Ends(nn.Module):
    """One head an action on a trunk, and the linear path past it, as in the product."""

    def __init__(self, width: int, inner: int, prior: FloatArray) -> None:
        super().__init__()
        self.head, self.skip = nn.Linear(inner, _A), nn.Linear(width, _A, bias=False)
        with torch.no_grad():
            self.head.bias.copy_(torch.from_numpy(prior))
            self.skip.weight.zero_()

    def forward(self, trunk: Tensor, x: Tensor) -> Tensor:
        """Map trunk [n, inner] and inputs [n, 2F] to logits [n, A]."""
        logits: Tensor = self.head(trunk) + self.skip(x)
        return logits


class Crossed(nn.Module):
    """DCN-V2 (Wang et al., WWW 2021), parallel: two low-rank cross layers beside a deep trunk."""

    def __init__(self, rank: int, sizes: tuple[int, int], prior: FloatArray, drop: float) -> None:
        super().__init__()
        width, hidden = sizes
        self.down = nn.ModuleList(nn.Linear(width, rank, bias=False) for _ in range(2))
        self.up = nn.ModuleList(nn.Linear(rank, width) for _ in range(2))
        self.first, self.second = nn.Linear(width, hidden), nn.Linear(hidden, hidden)
        self.ends, self.drop = Ends(width, hidden, prior), nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        """Map inputs [n, 2F] to logits [n, A]: x' = x0 * (U V x + b) + x, twice."""
        crossed = x
        for down, up in zip(self.down, self.up, strict=True):
            crossed = x * up(down(crossed)) + crossed
        deep = self.drop(functional.relu(self.first(x)))
        logits: Tensor = self.ends(self.drop(functional.relu(self.second(deep))), crossed)
        return logits


def crossed_logits(w: Weights, x: FloatArray) -> FloatArray:
    """Run `Crossed`."""
    crossed = x[None]
    for layer in (f"{k}.weight" for k in range(2)):
        bias = w[f"up.{layer.replace('weight', 'bias')}"]
        crossed = x * (crossed @ w[f"down.{layer}"] @ w[f"up.{layer}"] + bias) + crossed
    deep = _relu(x @ w["first.weight"] + w["first.bias"])
    return _ends(w, _relu(deep @ w["second.weight"] + w["second.bias"]), crossed)


class Masked(nn.Module):
    """MaskNet (Wang et al., 2021), serial: two blocks whose inputs a mask of all inputs scales."""

    def __init__(self, inner: int, sizes: tuple[int, int], prior: FloatArray, drop: float) -> None:
        super().__init__()
        width, hidden = sizes
        self.norm = nn.LayerNorm(width)
        self.ask1, self.mask1 = nn.Linear(width, inner), nn.Linear(inner, width)
        self.ask2, self.mask2 = nn.Linear(width, inner), nn.Linear(inner, hidden)
        self.first, self.norm1 = nn.Linear(width, hidden), nn.LayerNorm(hidden)
        self.second, self.norm2 = nn.Linear(hidden, hidden), nn.LayerNorm(hidden)
        self.ends, self.drop = Ends(width, hidden, prior), nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        """Map inputs [n, 2F] to logits [n, A]."""
        mask = self.mask1(functional.relu(self.ask1(x)))
        hidden = self.drop(functional.relu(self.norm1(self.first(self.norm(x) * mask))))
        mask = self.mask2(functional.relu(self.ask2(x)))
        hidden = self.drop(functional.relu(self.norm2(self.second(hidden * mask))))
        logits: Tensor = self.ends(hidden, x)
        return logits


def masked_logits(w: Weights, x: FloatArray) -> FloatArray:
    """Run `Masked`."""

    def mask(k: int) -> FloatArray:
        asked = _relu(x @ w[f"ask{k}.weight"] + w[f"ask{k}.bias"])
        ready: FloatArray = asked @ w[f"mask{k}.weight"] + w[f"mask{k}.bias"]
        return ready

    hidden = _norm(x[None], w, "norm") * mask(1)
    hidden = _relu(_norm(hidden @ w["first.weight"] + w["first.bias"], w, "norm1"))
    hidden = (hidden * mask(2)) @ w["second.weight"] + w["second.bias"]
    return _ends(w, _relu(_norm(hidden, w, "norm2")), x)


class Experts(nn.Module):
    """MMoE (Ma et al., KDD 2018): a softmax gate an action over shared experts."""

    def __init__(self, count: int, sizes: tuple[int, int], prior: FloatArray, drop: float) -> None:
        super().__init__()
        width, hidden = sizes
        self.count, self.drop = count, nn.Dropout(drop)
        self.expert = nn.Linear(width, count * hidden)
        self.gate, self.ends = nn.Linear(width, count * _A), Ends(width, hidden, prior)

    def forward(self, x: Tensor) -> Tensor:
        """Map inputs [n, 2F] to logits [n, A]: each head reads its own mixture of experts."""
        experts = self.drop(functional.relu(self.expert(x))).reshape(len(x), self.count, -1)
        gates = self.gate(x).reshape(len(x), self.count, _A).softmax(dim=1)
        mixed = (gates * functional.linear(experts, self.ends.head.weight)).sum(dim=1)
        logits: Tensor = mixed + self.ends.head.bias + self.ends.skip(x)
        return logits


def experts_logits(w: Weights, x: FloatArray) -> FloatArray:
    """Run `Experts`; heads before mixing, so that all is one product a member."""
    head = w["ends.head.weight"]
    members, hidden, _ = head.shape
    expert = _relu(x @ w["expert.weight"] + w["expert.bias"])
    read = expert.reshape(members, -1, hidden) @ head
    gates = x @ w["gate.weight"] + w["gate.bias"]
    gates = gates.reshape(members, len(x), -1, _A)
    gates = np.exp(gates - gates.max(axis=2, keepdims=True))
    mixed = (gates * read.reshape(gates.shape)).sum(axis=2) / gates.sum(axis=2)
    total: FloatArray = (mixed + w["ends.head.bias"]).mean(axis=0) + x @ _mean(w)
    return total


def _ends(w: Weights, trunk: FloatArray, x: FloatArray) -> FloatArray:
    skip = x @ _mean(w) if x.ndim == 2 else (x @ w["ends.skip.weight"]).mean(axis=0)
    logits: FloatArray = (trunk @ w["ends.head.weight"] + w["ends.head.bias"]).mean(axis=0) + skip
    return logits


def _mean(w: Weights) -> FloatArray:
    mean: FloatArray = w["ends.skip.weight"].mean(axis=0)
    return mean


def _norm(x: FloatArray, w: Weights, name: str) -> FloatArray:
    centred = x - x.mean(axis=-1, keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + np.float32(1e-5))
    normed: FloatArray = centred / spread * w[f"{name}.weight"] + w[f"{name}.bias"]
    return normed


def _relu(x: FloatArray) -> FloatArray:
    return np.maximum(x, np.float32(0.0), out=x)


def _of(kind: type[nn.Module], size: int) -> Build:
    return lambda width, hidden, prior, drop: kind(size, (width, hidden), prior, drop)


VARIANTS = (
    Variant("present", 32, Heads),
    Variant("DCNv2", 22, _of(Crossed, 4), crossed_logits),
    Variant("MaskNet", 17, _of(Masked, 7), masked_logits),
    Variant("MMoE", 6, _of(Experts, 3), experts_logits),
    Variant("present, larger", 80, Heads),
    Variant("DCNv2, larger", 56, _of(Crossed, 16), crossed_logits),
    Variant("MaskNet, larger", 52, _of(Masked, 20), masked_logits),
    Variant("MMoE, larger", 16, _of(Experts, 6), experts_logits),
)
