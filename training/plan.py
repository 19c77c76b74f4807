"""What a training run will cost and what it has to leave out: known before anything runs.

Pure: sizes, limits and a configuration in, a frozen plan out. Seconds are products of units (what a
step works through, in millions) and constants that `benchmarks/plan.py` measures; memory is the
sum of the arrays that a step holds at once. `machine_speed` is the one thing here that is timed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final, NamedTuple

import numpy as np

from contracts.errors import InvalidInput
from contracts.policy import ACTIONS
from features.views import FEATURES
from training.config import TrainingConfig, deep_budget
from training.recipes.spectral import ClosedFormConfig
from training.scoring import CHUNK, MOST_SCORES
from training.stages import AGAIN, FINALLY

MARGIN: Final = 1.15
"""A round is begun where this many times its estimate is left."""
SKEW: Final = 2.5
"""Mean of squared actions a person over the square of the mean (MovieLens-1M: 2.4)."""
PASSES: Final = (18, 14)
"""Passes of the deep family until patience ends it, and of its second fit."""
BASE_MB: Final = 720.0
"""The process with its libraries, and what they keep once they have run."""
REFERENCE_SECONDS: Final = 0.0115
"""`machine_speed`'s work on the machine that the constants were measured on."""

SECONDS: Final[dict[str, tuple[float, ...]]] = {
    "als": (0.0226, 0.00289, 0.000193),
    "baselines": (0.0, 0.859),
    "bundle": (0.0131, 0.0),
    "choose families and blend": (0.0, 0.00925, 3.67, 0.0),
    "closed_form": (1.0, 0.0022, 0.00039, 3.3e-05),
    "content": (0.0324, 63.7),
    "deep": (0.653, 102, 446, 3.3, 0.0),
    "item_knn": (0.0, 0.00199, 0.0278),
    "ranker": (0.0, 0.84),
    "ranker features": (0.0, 0.929, 0.818, 101),
    "read": (0.132, 0.55, 9.27),
    "split": (0.0, 0.0, 2.36),
    "test": (0.0, 0.292, 7.54, 1.86, 71.7, 0.0),
    "track": (2,),
    "write bundle": (0.00737, 1.72),
}
"""Seconds of each unit of `_units`."""


class Sizes(NamedTuple):
    """How big a problem is."""

    people: int
    posts: int
    actions: int
    """Positive ones: what models learn from."""
    impressions: int
    """All other rows of the log, where impressions are known; 0 where they are not."""


class Limits(NamedTuple):
    """What a run may take, and on what machine."""

    seconds: float
    ram_mb: float
    threads: int = 1
    speed: float = 1.0
    """1 is the machine of the constants, 2 is twice as fast."""


class Step(NamedTuple):
    """One stage of a run, estimated."""

    name: str
    seconds: float
    peak_mb: float


class LeftOut(NamedTuple):
    """What the best round of a plan does not do, or does less of."""

    what: str
    how: str
    why: str


@dataclass(frozen=True, slots=True)
class Round:
    """One run of `train_ranking`."""

    name: str
    config: TrainingConfig
    steps: tuple[Step, ...]

    @property
    def seconds(self) -> float:
        """Add the steps up."""
        return sum(step.seconds for step in self.steps)

    @property
    def peak(self) -> Step:
        """Give the step that needs most memory."""
        return max(self.steps, key=lambda step: step.peak_mb)


KNOBS: Final = {
    "als.factors": "ALS factors",
    "als.iterations": "ALS iterations",
    "deep_seconds": "seconds of a deep fit",
    "deep.epochs": "deep passes",
    "deep.windows": "deep windows a pass",
    "deep.held_people": "people who decide when the deep fit stops",
    "ranker_people": "people whom the ranker learns from",
    "ranker_seconds": "seconds of the ranker's fit",
    "most_impressions": "impressions that the ranker learns from",
    "union": "candidates of each family",
    "split.most_people": "people tested",
    "refit": "second fit on all before the test",
    "closed_form": "closed-form neighbours",
    "final_fit": "a last fit on everything",
}
"""What plans choose: its place in `TrainingConfig`, and its name in words."""

_QUICK = (32, 8, 5.0, 1, 2000, 0, 400, 5.0, 20_000, 50, 2000, False, None, False)
_SHORT = {"deep_seconds": 8.0, "deep.windows": 10_000, "deep.held_people": 500,
          "ranker_people": 500, "ranker_seconds": 10.0, "split.most_people": 5000}  # fmt: skip
_MIDDLE = {"deep_seconds": 20.0, "deep.windows": 40_000, "ranker_seconds": 30.0}
_LESS = ("ranker_people", "most_impressions", "split.most_people", "union")

RUNGS: Final[Mapping[str, Mapping[str, Any]]] = {
    "quick": dict(zip(KNOBS, _QUICK, strict=True)),
    "short": _SHORT,
    "middle": _MIDDLE,
    "whole": {},
}
"""Rounds from cheap to dear: upper bounds of what each may choose."""
SHRINKS: Final[tuple[Mapping[str, Any], ...]] = (
    {},
    dict(zip(_LESS, (1000, 60_000, 5000, 100), strict=True)),
    dict(zip(_LESS, (500, 20_000, 2000, 50), strict=True)),
    dict(zip(_LESS, (200, 5000, 500, 30), strict=True)),
)
"""Upper bounds for less memory, tried in this order."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Rounds, each better and dearer than the one before."""

    rounds: tuple[Round, ...]
    base: TrainingConfig
    whole: Round
    """The last rung, as far as memory allows it."""
    limits: Limits

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """Say what the last round leaves out."""
        return self.missing(self.rounds[-1].config) if self.rounds else ()

    def missing(self, config: TrainingConfig) -> tuple[LeftOut, ...]:
        """Compare a configuration with the one asked for, and say which limit is the cause."""
        memory = f"more does not fit in {self.limits.ram_mb:,.0f} MB"
        time = f"a whole run takes about {self.whole.seconds:,.0f} s, more than is left"
        short = self.whole.peak.peak_mb > self.limits.ram_mb
        found = []
        for path, what in KNOBS.items():
            got, full, most = (_get(c, path) for c in (config, self.base, self.whole.config))
            if got != full:
                cause = memory if short or got == most else time
                how = f"{_word(path, got)}, not {_word(path, full)}"
                found.append(LeftOut(what, how, cause))
        return tuple(found)


def bounded(base: TrainingConfig, bounds: Mapping[str, Any]) -> TrainingConfig:
    """Bound a configuration's choices: the lower of both, and nothing where the bound is None."""
    for path, bound in bounds.items():
        value = _get(base, path)
        lower = bound if value is None or bound is None else min(value, bound)
        group, _, name = path.rpartition(".")
        part = getattr(base, group).model_copy(update={name: lower}) if group else lower
        base = base.model_copy(update={group or name: part})
    return base


def settings_of(config: TrainingConfig) -> dict[str, str]:
    """Name what plans choose, in words."""
    return {what: _word(path, _get(config, path)) for path, what in KNOBS.items()}


def make_plan(
    sizes: Sizes,
    base: TrainingConfig,
    limits: Limits,
    *,
    after: str | None = None,
    champion: bool = False,
) -> Plan:
    """Choose rounds for a budget; InvalidInput where not even the smallest fits.

    The quick round comes first, then the best that fits in what is left, and between them what
    costs at most a third of that. `after`: only rounds above this one, in the time left, or none.
    """

    def one(name: str, config: TrainingConfig) -> Round:
        first = name == "quick"
        steps = estimate(sizes, config, limits, champion=champion or not first)
        return Round(name, config, tuple(s for s in steps if first or s.name != "read"))

    shrunk = (one("whole", bounded(base, shrink)) for shrink in SHRINKS)
    whole = next((r for r in shrunk if r.peak.peak_mb <= limits.ram_mb), None)
    whole = whole or one("whole", bounded(base, SHRINKS[-1]))
    ladder = [one(name, bounded(whole.config, rung)) for name, rung in RUNGS.items()]
    fitting = [r for r in ladder if r.peak.peak_mb <= limits.ram_mb]
    chosen, left = [], limits.seconds
    if after is None:
        _refuse_impossible(ladder[0], limits)
        chosen, left = ladder[:1], left - MARGIN * ladder[0].seconds
    names = list(RUNGS)
    above = names[names.index(after or "quick") + 1 :]
    able = [r for r in fitting if r.name in above and MARGIN * r.seconds <= left]
    for each in able[:-1]:
        best = able[-1].seconds
        if each.seconds <= best / 3 and MARGIN * (each.seconds + best) <= left:
            chosen.append(each)
            left -= MARGIN * each.seconds
    return Plan((*chosen, *able[-1:]), base, whole, limits)


def estimate(
    sizes: Sizes, config: TrainingConfig, limits: Limits, *, champion: bool = True
) -> tuple[Step, ...]:
    """Estimate each step of one run; nothing is run."""
    memory = _megabytes(sizes, config)
    held = BASE_MB + 300e-6 * (sizes.actions + sizes.impressions) + 3e-3 * sizes.posts
    units = _units(sizes, config, limits.threads)
    if not champion:
        units["gate"] = (0.0,)
    return tuple(
        Step(
            name,
            _seconds(name, worked, config, sizes, limits.speed),
            held + memory.get(_kind(name), 10.0),
        )
        for name, worked in units.items()
    )


def _seconds(
    name: str, units: tuple[float, ...], config: TrainingConfig, sizes: Sizes, speed: float
) -> float:
    """Price units; what has a time budget of its own takes no more than that and one pass."""
    kind = "test" if name == "gate" else _kind(name)
    priced = [u * s / speed for u, s in zip(units, SECONDS[kind], strict=False)]
    if kind == "ranker":
        return priced[0] + min(sum(priced[1:]), config.ranker_seconds)
    if kind != "deep":
        return sum(priced)
    again = name != kind  # it makes as many passes as were best in the first fit, not more
    budget = deep_budget(config, int(0.68 * sizes.actions)) * (0.7 if again else 1.0)
    passing = sum(priced[2:])
    return sum(priced[:2]) + max(passing / _passes(config, again), min(passing, budget))


def _kind(name: str) -> str:
    return name.removesuffix(AGAIN).removesuffix(FINALLY)


def _passes(config: TrainingConfig, again: bool) -> int:
    return min(config.deep.epochs, PASSES[again])


def _units(sizes: Sizes, config: TrainingConfig, threads: int) -> dict[str, tuple[float, ...]]:
    """Count what each step works through, in millions; the first unit is 1, for what is fixed."""
    posts, log = sizes.posts, sizes.actions + sizes.impressions
    asked = min(sizes.people, config.split.most_people)
    cells, wide = asked * posts, asked * min(posts, 2 * config.union)
    sample = (1 + config.refit) * min(500, asked) * posts
    learned, candidates = _ranker_rows(sizes, config)
    passed = learned * min(config.ranker.epochs, PASSES[0]) * config.ranker.shape.members
    shown = min(config.most_impressions, (1 - config.split.known_share) * sizes.impressions)
    models = 4 + len(config.content_priors) + 2 * (config.closed_form is not None)
    found: dict[str, tuple[float, ...]] = {
        "read": (log, posts),
        "split": (log, asked * sizes.actions / sizes.people),
        **_fit_units(sizes, config, threads),
        "choose families and blend": (models * cells, wide, sample),
        "ranker features": (log, candidates, learned - candidates),
        "ranker": (passed,),
        **(_fit_units(sizes, config, threads, AGAIN) if config.refit else {}),
        **(_fit_units(sizes, config, threads, FINALLY) if config.final_fit else {}),
        "test": (cells, wide, log, shown, asked),
        "gate": (cells, wide, log, 0.0, asked),
        "bundle": (posts,),
        "write bundle": (posts,),
        "track": (),
    }
    return {name: (1.0, *(unit / 1e6 for unit in units)) for name, units in found.items()}


def _fit_units(
    sizes: Sizes, config: TrainingConfig, threads: int, suffix: str = ""
) -> dict[str, tuple[float, ...]]:
    people, posts = sizes.people, sizes.posts
    again = bool(suffix)
    shares = {"": config.split.fit_share, AGAIN: config.split.known_share, FINALLY: 1.0}
    actions = shares[suffix] * sizes.actions
    products = SKEW * actions**2 / people
    factors, many = config.als.factors, max(1.0, 0.7 * threads)
    turns, passes = config.als.iterations / many, _passes(config, again) / many
    deep = config.deep
    windows = min(deep.windows or np.inf, actions / deep.shape.window + people / 2) * passes
    held = 0 if again else min(deep.held_people, people) * posts * passes
    found: dict[str, tuple[float, ...]] = {
        "baselines": (actions,),
        "item_knn": (products, posts * min(posts, products / posts)),
        "als": (turns * actions * factors, turns * (people + posts) * factors**2),
        "closed_form": _closed_form_units(config.closed_form, people, posts, actions),
        "content": (posts,),
        "deep": (posts, windows, windows / deep.batch * min(posts, 4000), held),
    }
    return {name + suffix: units for name, units in found.items() if units}


def _closed_form_units(
    config: ClosedFormConfig | None, people: int, posts: int, actions: float
) -> tuple[float, ...]:
    """Count the sparse and dense products of two decompositions, and those of all lists."""
    if config is None:
        return ()
    most = min(people, posts)
    ranks = [min(config.filter.rank, most), min(config.ridge.rank, most)]
    smooth = min(config.filter.low_pass_rank, ranks[0])
    dense = (people + posts) * sum(rank**2 for rank in ranks)
    return actions * sum(ranks), dense, posts**2 * (sum(ranks) + smooth)


def _ranker_rows(sizes: Sizes, config: TrainingConfig) -> tuple[float, float]:
    """Count the rows that the ranker learns from, and how many of them are no impressions."""
    if sizes.impressions:
        between = config.split.known_share - config.split.fit_share
        return min(config.most_impressions, between * sizes.impressions), 0.0
    people = min(config.ranker_people, sizes.people, config.split.most_people)
    candidates = float(people * min(sizes.posts, 2 * config.union))
    return candidates, candidates


def _megabytes(sizes: Sizes, config: TrainingConfig) -> dict[str, float]:
    """Add up the arrays that each step holds beside the data, in MB."""
    people, posts, actions = sizes.people, sizes.posts, sizes.actions
    asked, width = min(people, config.split.most_people), len(FEATURES)
    wide = asked * min(posts, 3 * config.union)
    # Of a chunk: scores of four families, a masked copy, and the sorted places of the best.
    chunk = 32.0 * min(min(CHUNK, asked) * posts, max(MOST_SCORES, posts))
    sample = 16.0 * min(min(500, asked) * posts, 4 * MOST_SCORES)
    near = min(posts, 4 * SKEW * actions**2 / people / posts)
    learned, join = _ranker_rows(sizes, config)[0], 150.0 * (actions + sizes.impressions)
    join += 2e3 * (people + posts)
    factors = 12.0 * (people + posts) * config.als.factors + 40.0 * actions
    closed = 0.0
    if config.closed_form is not None:
        ranks = config.closed_form.filter.rank, config.closed_form.ridge.rank
        closed = 12.0 * min(sum(ranks), 2 * min(people, posts)) * (people + posts)
        closed += 24.0 * min(1024, posts) * posts + 8.0 * config.closed_form.neighbours * posts
    test = chunk + wide * (12.0 * width + 16 * len(ACTIONS)) + 4800.0 * asked + join
    held = 12.0 * min(config.deep.held_people, people) * posts
    found = {
        "item_knn": 50.0 * min(1024, posts) * near,
        "als": factors,
        "closed_form": closed,
        "content": 4e3 * posts,
        "deep": 6e3 * posts + held + 1e8,
        "choose families and blend": max(chunk + 80.0 * wide, sample),
        "ranker features": 12.0 * width * learned + join,
        "ranker": 32.0 * width * learned,
        "test": test,
        "gate": test,
        "bundle": 3e3 * posts,
        "track": 1e8,
    }
    return {name: size / 1e6 for name, size in found.items()}


def _refuse_impossible(smallest: Round, limits: Limits) -> None:
    most, seconds = smallest.peak, smallest.seconds
    allowed = f"and {limits.ram_mb:,.0f} MB and {limits.seconds:,.0f} s are allowed"
    if most.peak_mb > limits.ram_mb:
        msg = f"the smallest plan needs about {most.peak_mb:,.0f} MB (for {most.name!r}), {allowed}"
        raise InvalidInput(msg, hint=f"give --ram {most.peak_mb + 10:.0f}m or more")
    if MARGIN * seconds > limits.seconds:
        msg = f"the smallest plan takes about {seconds:,.0f} s, {allowed}"
        raise InvalidInput(msg, hint=f"give --budget {MARGIN * seconds + 1:.0f}s or more")


def _get(config: TrainingConfig, path: str) -> Any:  # noqa: ANN401 - numbers of several kinds
    group, _, name = path.rpartition(".")
    return getattr(getattr(config, group) if group else config, name)


def _word(path: str, value: object) -> str:
    if path in {"refit", "closed_form", "final_fit"}:
        return "with" if value else "without"
    return "the usual" if value is None else f"{value:g}"


def machine_speed() -> float:
    """Time a little of what training does, in under half a second: 1 is the constants' machine."""
    generator = np.random.Generator(np.random.PCG64(0))
    square = generator.random((384, 384), dtype=np.float32)
    many = generator.random(300_000, dtype=np.float32)
    began = perf_counter()
    for _ in range(12):  # the mean, not the best: what others take from this machine counts
        for _ in range(6):
            np.dot(square, square)
        np.argsort(many)
        sum(range(300_000))
    return 12 * REFERENCE_SECONDS / (perf_counter() - began)
