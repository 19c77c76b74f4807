"""One training loop for every network: epochs, a score to beat, patience, a time budget."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from time import monotonic
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from models.base import TrainingContext
from training.workers import ALONE, Workers


class Limits(NamedTuple):
    """When a fit ends: after some epochs, some without a better score, or some seconds."""

    epochs: int
    patience: int
    seconds: float | None = None


@dataclass(slots=True)
class LoopReport:
    """How a fit went, or goes: what a checkpoint says beside the weights of the last epoch."""

    state: dict[str, Any]
    """Weights of the best epoch."""
    scores: list[float] = field(default_factory=list)
    """One an epoch."""
    best: float = float("-inf")
    best_epoch: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    stopped: str = ""
    """`patience`, `time` or `epochs`; empty while it goes on."""

    @property
    def epochs(self) -> int:
        """Count the epochs so far."""
        return len(self.scores)


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
    limits: Limits,
    optimiser: torch.optim.Optimizer | None = None,
    workers: Workers = ALONE,
) -> LoopReport:
    """Train until the score stops rising, and leave the network at its best epoch.

    `epoch(number)` makes one pass; `score()` is higher where better, the same for all workers, and
    without it each epoch counts as better than the one before. The time budget is checked between
    epochs and leaves room for one more like the slowest so far. Workers that have a checkpoint
    go on from it.
    """
    report = LoopReport(deepcopy(network.state_dict()))
    if workers.saved is not None and optimiser is not None:
        network.load_state_dict(workers.saved["network"])
        optimiser.load_state_dict(workers.saved["optimiser"])
        report = LoopReport(**workers.saved["report"])
    while not report.stopped:
        began = monotonic()
        number = report.epochs + 1
        network.train()
        epoch(number)
        network.eval()
        report.scores.append(float(number) if score is None else score())
        if report.scores[-1] > report.best:
            report.best, report.best_epoch = report.scores[-1], number
            report.state = deepcopy(network.state_dict())
        took = monotonic() - began
        report.seconds += took
        report.slowest = max(report.slowest, took)
        report.stopped = _why_stop(report, limits, workers)
        if workers.keep is not None and optimiser is not None:
            state = {"network": network.state_dict(), "optimiser": optimiser.state_dict()}
            workers.keep({**state, "report": asdict(report)})
    network.load_state_dict(report.state)
    network.eval()
    return report


def _why_stop(report: LoopReport, limits: Limits, workers: Workers) -> str:
    """Say why to stop after an epoch, "" to go on; one worker out of time stops all."""
    late = limits.seconds is not None and report.seconds + report.slowest > limits.seconds
    anyone_late = workers.sum(np.array([float(late)]))[0] > 0
    if report.epochs - report.best_epoch >= limits.patience:
        return "patience"
    if anyone_late:
        return "time"
    return "epochs" if report.epochs >= limits.epochs else ""
