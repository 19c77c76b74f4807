"""Who fits a network together: one process, or several that each hold a part of the people.

The loop and the recipes speak to a `Workers` only; in one process every call is the identity, so
that one recipe serves both. No engine is named here: `pipelines/ray_jobs.py` starts workers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed, nn


@dataclass(frozen=True, slots=True)
class Workers:
    """The processes of one fit; every one makes the same calls in the same order.

    More than one need torch's process group to be set up.
    """

    rank: int = 0
    size: int = 1
    saved: Mapping[str, Any] | None = None
    """The newest checkpoint of an earlier attempt; None at the first."""
    keep: Callable[[Mapping[str, Any]], None] | None = None
    """Keeps a checkpoint; every worker calls it."""

    def sum(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Add an array up over the workers."""
        if self.size == 1:
            return values
        total = torch.from_numpy(values.copy())
        distributed.all_reduce(total)
        added: NDArray[np.float64] = total.numpy()
        return added

    def average(self, network: nn.Module, weight: float) -> bool:
        """Average gradients in one exchange, each worker's by its weight.

        A worker without a batch gives weight 0; False where all do.
        """
        if self.size == 1:
            return weight > 0.0
        parameters = list(network.parameters())
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([*(part.flatten() * weight for part in parts), torch.tensor([weight])])
        distributed.all_reduce(flat)
        total = float(flat[-1])
        if total > 0.0:
            pieces = torch.split(flat[:-1] / total, [p.numel() for p in parameters])
            for parameter, piece in zip(parameters, pieces, strict=True):
                parameter.grad = piece.view_as(parameter)
        return total > 0.0


ALONE: Final = Workers()
