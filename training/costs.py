"""What each step of a training run costs, in seconds and in memory: known before anything runs.

Pure: sizes, limits and a configuration in, steps out. Seconds are products of units (what a step
works through, in millions) and constants that `benchmarks/plan.py` measures; memory is the sum of
the arrays that a step holds at once. `machine_speed` is the one thing here that is timed.
"""

from time import perf_counter
from typing import Final, NamedTuple

import numpy as np

from contracts.policy import ACTIONS
from features.views import FEATURES
from training.config import TrainingConfig, deep_budget
from training.recipes.spectral import ClosedFormConfig
from training.scoring import CHUNK, MOST_SCORES
from training.stages import AGAIN, FINALLY

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
    people = min(sizes.people, config.split.most_people)
    moments = min(config.ranker_people, people * config.ranker_moments)
    candidates = float(moments * min(sizes.posts, 2 * config.union))
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
