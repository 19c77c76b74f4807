"""What a training run has to leave out to fit a budget: decided before anything runs.

Pure: sizes, limits and a configuration in, a frozen plan out; costs are those of `training.costs`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from contracts.errors import InvalidInput
from training.config import TrainingConfig
from training.costs import Limits, Sizes, Step, estimate

MARGIN: Final = 1.15
"""A round is begun where this many times its estimate is left."""


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

    def missing(self, config: TrainingConfig, refused: Sequence[Round] = ()) -> tuple[LeftOut, ...]:
        """Compare a configuration with the one asked for, and say which limit is the cause.

        `refused` are rounds that ran and did not pass the gate: what one of them had is not left
        out for want of time.
        """
        memory = f"more does not fit in {self.limits.ram_mb:,.0f} MB"
        time = f"a whole run takes about {self.whole.seconds:,.0f} s, more than is left"
        short = self.whole.peak.peak_mb > self.limits.ram_mb
        found = []
        for path, what in KNOBS.items():
            got, full, most = (_get(c, path) for c in (config, self.base, self.whole.config))
            if got != full:
                cause = memory if short or got == most else time
                for each in refused:
                    if _get(each.config, path) == full:
                        cause = f"the gate refused the round {each.name!r}, which had it"
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
    searching: float = 0.0,
) -> Plan:
    """Choose rounds for a budget; InvalidInput where not even the smallest fits.

    The quick round comes first, then the best that fits in what is left, and between them what
    costs at most a third of that. `after`: only rounds above this one, in the time left, or none;
    `searching`: seconds kept for a search.
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
    chosen, left = [], limits.seconds - searching
    if after is None:
        _refuse_impossible(ladder[0], limits, searching)
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


def _refuse_impossible(smallest: Round, limits: Limits, searching: float) -> None:
    most, seconds = smallest.peak, smallest.seconds
    allowed = f"and {limits.ram_mb:,.0f} MB and {limits.seconds:,.0f} s are allowed"
    if most.peak_mb > limits.ram_mb:
        msg = f"the smallest plan needs about {most.peak_mb:,.0f} MB (for {most.name!r}), {allowed}"
        raise InvalidInput(msg, hint=f"give --ram {most.peak_mb + 10:.0f}m or more")
    needed = MARGIN * seconds + searching
    if needed > limits.seconds:
        beside = f" beside a search of {searching:,.0f} s" if searching else ""
        msg = f"the smallest plan takes about {seconds:,.0f} s{beside}, {allowed}"
        raise InvalidInput(msg, hint=f"give --budget {needed + 1:.0f}s or more")


def _get(config: TrainingConfig, path: str) -> Any:  # noqa: ANN401 - numbers of several kinds
    group, _, name = path.rpartition(".")
    return getattr(getattr(config, group) if group else config, name)


def _word(path: str, value: object) -> str:
    if path in {"refit", "closed_form", "final_fit"}:
        return "with" if value else "without"
    return "the usual" if value is None else f"{value:g}"
