"""Runs one published protocol: fit on validation, choose the blend, fit on all, test once."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from time import process_time
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.base import FloatArray, IntArray, TrainingContext
from training.intervals import Interval, bootstrap_means, interval
from training.protocols.blend import Blend, choose, pooled, stacked
from training.protocols.evidence import Evidence
from training.protocols.exam import Scorer, judged, people_with_targets, ranked
from training.protocols.members import Fitted
from training.protocols.rerank import Lists, fit_reranker
from training.protocols.sets import ProtocolSet
from training.protocols.split import Split, renumbered
from training.stages import StageClock

ENSEMBLE: Final = "ensemble"
BLEND: Final = "blend"
"""The ensemble before its best items are ordered anew, where they are."""

Values = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class ProtocolRow:
    """One model's line."""

    model: str
    metrics: Mapping[str, Interval]
    over_best_single: Interval | None
    """The ensemble's last metric less that of the best member; paired over people."""
    seconds: float
    """Wall time of the last fit; of the blend and the ensemble, of all, for validation too."""
    cpu_seconds: float
    peak_mb: float


@dataclass(frozen=True, slots=True)
class ProtocolResult:
    """One run."""

    set: ProtocolSet
    people: int
    rows: list[ProtocolRow]
    blend: Blend


def reproduce(
    chosen: ProtocolSet,
    split: Split,
    context: TrainingContext,
    clock: StageClock,
    done: Callable[[int], None] | None = None,
) -> ProtocolResult:
    """Run a protocol whole; `done(people)` is told as each model's test lists are ranked."""
    split = renumbered(split)
    if not split.validations:
        raise ValueError(f"{split.name} has no validation cut")
    costs: list[_Cost] = []
    generator = np.random.Generator(np.random.PCG64(context.seed))
    pools = []
    for number, validation in enumerate(split.validations, 1):
        on = f"cut {number} of {len(split.validations)}"
        early = dict(_fitted(chosen, validation, context, clock, costs, on))
        asked = generator.permutation(people_with_targets(validation))[: chosen.validation_people]
        pools.append(pooled(validation, early, np.sort(asked), chosen.pool))
    with clock.stage("choose the blend"):
        blend = choose(stacked(pools), list(early), chosen.cuts)
        pools.clear()
    reranker = None
    if chosen.rerank is not None:
        with _measured("learn to order anew", clock, costs):
            lists = _lists(chosen, validation, blend, early, context)
            reranker, _ = fit_reranker(lists, np.sort(asked), chosen.rerank, chosen.cuts, context)
            del lists
    if validation.learned is split.learned:
        late: Mapping[str, Fitted] = early
    else:
        early.clear()
        late = dict(_fitted(chosen, split, context, clock, costs, "all of train"))
    people = people_with_targets(split)
    values: dict[str, Values] = {}
    scorers = dict(_scorers(late, blend, split))
    if reranker is not None:
        scorers[BLEND] = scorers.pop(ENSEMBLE)
        with _measured("describe the best", clock, costs):
            scorers[ENSEMBLE] = reranker.scorer(_lists(chosen, split, blend, late, context))
    for name, scorer in scorers.items():
        with clock.stage(f"test {name}"):
            values[name] = judged(split, people, ranked(split, people, scorer, done))
    rows = _rows(values, chosen.metrics, context.seed, costs)
    return ProtocolResult(chosen, len(people), rows, blend)


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
    on: str,
) -> Iterator[tuple[str, Fitted]]:
    for member in chosen.members:
        with _measured(f"fit {member.name}, {on}", clock, costs, member.name):
            fitted = member.fit(split, context)
        yield member.name, fitted


@contextmanager
def _measured(
    stage: str, clock: StageClock, costs: list[_Cost], model: str = ENSEMBLE
) -> Iterator[None]:
    began = process_time()
    with clock.stage(stage):
        yield
    _, wall, peak = clock.costs[-1]
    costs.append(_Cost(model, wall, process_time() - began, peak))


def _lists(
    chosen: ProtocolSet,
    split: Split,
    blend: Blend,
    fitted: Mapping[str, Fitted],
    context: TrainingContext,
) -> Lists:
    wanted = chosen.rerank is not None and chosen.rerank.evidence
    return Lists(split, blend, fitted, Evidence(split, context) if wanted else None)


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
    members = values.keys() - {ENSEMBLE, BLEND}
    singles = {name: float(values[name][last].mean()) for name in sorted(members)}
    best = max(singles, key=singles.__getitem__)
    fits = {cost.model: cost[1:] for cost in costs if cost.model != ENSEMBLE}
    fits[BLEND] = _sum([cost for cost in costs if cost.model != ENSEMBLE])
    fits[ENSEMBLE] = _sum(costs)
    rows = []
    for name, own in values.items():
        columns = np.stack([own[m] for m in metrics] + [own[last] - values[best][last]], axis=1)
        means = bootstrap_means(columns, seed)
        found = [
            interval(float(columns[:, k].mean()), means[:, k]) for k in range(len(metrics) + 1)
        ]
        wall, cpu, peak = fits[name]
        over = found[-1] if name == ENSEMBLE else None
        figures = dict(zip(metrics, found, strict=False))
        rows.append(ProtocolRow(name, figures, over, round(wall, 1), round(cpu, 1), round(peak)))
    return rows


def _sum(costs: Sequence[_Cost]) -> tuple[float, float, float]:
    wall, cpu = sum(cost.wall for cost in costs), sum(cost.cpu for cost in costs)
    return wall, cpu, max(cost.peak_mb for cost in costs)
