"""Runs one published protocol: fit on validation, choose the blend, fit on all, test once."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from time import process_time
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.base import FloatArray, IntArray, TrainingContext
from training.intervals import Interval, bootstrap_means, interval
from training.protocols.blend import Blend, choose, pooled
from training.protocols.exam import Scorer, judged, people_with_targets, ranked
from training.protocols.members import Fitted
from training.protocols.sets import ProtocolSet
from training.protocols.split import Split, renumbered
from training.stages import StageClock

ENSEMBLE: Final = "ensemble"

Values = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class ProtocolRow:
    """One model's line."""

    model: str
    metrics: Mapping[str, Interval]
    over_best_single: Interval | None
    """The ensemble's last metric less that of the best member; paired over people."""
    seconds: float
    """Wall time of the last fit; of the ensemble, of all fits, those for validation too."""
    cpu_seconds: float
    peak_mb: float


@dataclass(frozen=True, slots=True)
class ProtocolResult:
    """One run."""

    set: ProtocolSet
    people: int
    rows: list[ProtocolRow]
    blend: Blend
    validation: float
    """The sum of recall and NDCG at each cut that the blend reached on validation."""


def reproduce(
    chosen: ProtocolSet,
    split: Split,
    context: TrainingContext,
    clock: StageClock,
    done: Callable[[int], None] | None = None,
) -> ProtocolResult:
    """Run a protocol whole; `done(people)` is told as each model's test lists are ranked."""
    split = renumbered(split)
    validation = split.validation
    if validation is None:
        raise ValueError(f"{split.name} has no validation cut")
    costs: list[_Cost] = []
    early = dict(_fitted(chosen, validation, context, clock, costs))
    generator = np.random.Generator(np.random.PCG64(context.seed))
    asked = generator.permutation(people_with_targets(validation))[: chosen.validation_people]
    with clock.stage("choose the blend"):
        pool = pooled(validation, early, np.sort(asked), chosen.pool)
        blend, reached = choose(pool, list(early), chosen.start, chosen.cuts)
    if validation.learned is split.learned:
        late: Mapping[str, Fitted] = early
    else:
        early.clear()
        late = dict(_fitted(chosen, split, context, clock, costs))
    people = people_with_targets(split)
    values: dict[str, Values] = {}
    for name, scorer in _scorers(late, blend, split):
        with clock.stage(f"test {name}"):
            lists = ranked(split, people, scorer, done)
            values[name] = judged(split, people, lists)
    rows = _rows(values, chosen.metrics, context.seed, costs)
    return ProtocolResult(chosen, len(people), rows, blend, reached)


class _Cost(NamedTuple):
    model: str
    wall: float
    cpu: float
    peak_mb: float


def _fitted(
    chosen: ProtocolSet,
    split: Split,
    context: TrainingContext,
    clock: StageClock,
    costs: list[_Cost],
) -> Iterator[tuple[str, Fitted]]:
    for member in chosen.members:
        began = process_time()
        with clock.stage(f"fit {member.name}"):
            fitted = member.fit(split, context)
        _, wall, peak = clock.costs[-1]
        costs.append(_Cost(member.name, wall, process_time() - began, peak))
        yield member.name, fitted


def _scorers(
    late: Mapping[str, Fitted], blend: Blend, split: Split
) -> Iterator[tuple[str, Scorer]]:
    for name, fitted in late.items():
        yield name, partial(_copied, fitted, split)
    yield ENSEMBLE, blend.scorer(split, late)


def _copied(fitted: Fitted, split: Split, people: IntArray) -> FloatArray:
    return np.array(fitted.scores(split, people))  # ranking sinks what is known, in place


def _rows(
    values: Mapping[str, Values], metrics: tuple[str, ...], seed: int, costs: list[_Cost]
) -> list[ProtocolRow]:
    last = metrics[-1]
    singles = {name: float(v[last].mean()) for name, v in values.items() if name != ENSEMBLE}
    best = max(singles, key=singles.__getitem__)
    fits = {cost.model: cost[1:] for cost in costs}
    whole = (sum(c.wall for c in costs), sum(c.cpu for c in costs), max(c.peak_mb for c in costs))
    rows = []
    for name, own in values.items():
        columns = np.stack([own[m] for m in metrics] + [own[last] - values[best][last]], axis=1)
        means = bootstrap_means(columns, seed)
        found = [
            interval(float(columns[:, k].mean()), means[:, k]) for k in range(len(metrics) + 1)
        ]
        wall, cpu, peak = fits.get(name, whole)
        over = found[-1] if name == ENSEMBLE else None
        figures = dict(zip(metrics, found, strict=False))
        rows.append(ProtocolRow(name, figures, over, round(wall, 1), round(cpu, 1), round(peak)))
    return rows
