"""One training loop for every network: epochs, a score to beat, patience, a time budget."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from time import monotonic

import torch
from torch import nn

from models.base import TrainingContext


@dataclass(frozen=True, slots=True)
class LoopReport:
    """How a fit went."""

    epochs: int
    best_epoch: int
    scores: tuple[float, ...]
    stopped: str
    """`patience`, `time` or `epochs`."""


@contextmanager
def torch_run(context: TrainingContext) -> Iterator[None]:
    """Seed torch and set its threads for one fit; both are put back afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(context.threads)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(context.seed)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def run_epochs(
    network: nn.Module,
    epoch: Callable[[int], None],
    score: Callable[[], float] | None,
    *,
    epochs: int,
    patience: int,
    budget_seconds: float | None,
) -> LoopReport:
    """Train until the score stops rising, and leave the network at its best epoch.

    `epoch(number)` makes one pass; `score()` is higher where better, and without it each epoch
    counts as better than the one before. The time budget is checked between epochs and leaves
    room for one more like the slowest so far.
    """
    started, slowest = monotonic(), 0.0
    best, best_epoch, state = float("-inf"), 0, deepcopy(network.state_dict())
    scores: list[float] = []
    stopped = "epochs"
    for number in range(1, epochs + 1):
        began = monotonic()
        network.train()
        epoch(number)
        network.eval()
        scores.append(float(number) if score is None else score())
        if scores[-1] > best:
            best, best_epoch, state = scores[-1], number, deepcopy(network.state_dict())
        slowest = max(slowest, monotonic() - began)
        if number - best_epoch >= patience:
            stopped = "patience"
            break
        if budget_seconds is not None and monotonic() - started + slowest > budget_seconds:
            stopped = "time"
            break
    network.load_state_dict(state)
    network.eval()
    return LoopReport(len(scores), best_epoch, tuple(scores), stopped)
