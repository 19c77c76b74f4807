"""Which actions train and which moments test: by time, by month, or by each person's order."""

from dataclasses import dataclass, replace

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from contracts.clock import to_datetime, to_us
from contracts.errors import InvalidInput
from contracts.seeds import unit_interval
from models.base import BoolArray, IntArray
from training.dataset import Dataset, Protocol, Queries, refuse_future, refuse_leakage


class SplitConfig(BaseModel):
    """Where the cuts lie."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fit_share: float = Field(default=0.68, gt=0, lt=1)
    """Share of actions before the first cut: what families are fitted on for the ranker."""
    known_share: float = Field(default=0.8, gt=0, lt=1)
    """Share of actions before the second cut: the test begins here."""
    order_share: float = Field(default=0.1, gt=0, lt=0.5)
    """Protocol `order`: share of each person's actions in the test, and in validation."""
    most_people: int = Field(default=10_000, ge=1)
    """People asked in each window; above it a fixed sample of them, so that large sets stay
    affordable to judge."""


@dataclass(frozen=True, slots=True)
class Split:
    """Two cuts of one set: families are fitted before the first, the ranker between, test after."""

    protocol: Protocol
    sentence: str
    """The protocol in words, for the table of results."""
    fit: BoolArray
    """[actions]: before the first cut."""
    refit: BoolArray
    """[actions]: before the second cut."""
    validation: Queries
    test: Queries
    cuts_us: tuple[int, int] | None = None
    """The two cuts in time; None by each person's order."""


def make_split(data: Dataset, config: SplitConfig) -> Split:
    """Split by the set's protocol; LeakageError where a training row would see a target."""
    split = _by_order(data, config) if data.protocol == "order" else _by_time(data, config)
    split = replace(
        split,
        validation=_sampled(data, split.validation, config.most_people),
        test=_sampled(data, split.test, config.most_people),
    )
    refuse_leakage(data, split.fit, split.validation)
    refuse_leakage(data, split.refit, split.test)
    if not len(split.validation) or not len(split.test):
        msg = f"{data.name}: nobody acts both before and after the cuts, nothing can be measured"
        raise InvalidInput(msg, hint="move the cuts, or bring a longer time span")
    return split


def _sampled(data: Dataset, queries: Queries, most: int) -> Queries:
    """Keep at most `most` queries, those whose person hashes lowest: the same in every run."""
    if len(queries) <= most:
        return queries
    draw = unit_interval(0, data.viewer_ids[queries.user_rows], "most_people")
    return queries[np.sort(np.argpartition(draw, most)[:most])]


def _by_time(data: Dataset, config: SplitConfig) -> Split:
    times = data.actions.times_us
    first, second = cuts_in_time(times, data.protocol, config)
    first_valid, last = _two_cuts(data, first, second)
    fit, refit = times < first, times < second
    refuse_future(data, fit, first)
    refuse_future(data, refit, second)
    words = "months" if data.protocol == "month" else "moments"
    sentence = (
        f"global {words}: families before {to_datetime(first):%Y-%m-%d}, ranker before "
        f"{to_datetime(second):%Y-%m-%d}, test after; history of a tested person is all before "
        "the test, or the first half of the test where that is empty; features as of the moment"
    )
    return Split(data.protocol, sentence, fit, refit, first_valid, last, (first, second))


def cuts_in_time(times_us: IntArray, protocol: Protocol, config: SplitConfig) -> tuple[int, int]:
    """Find the two cuts of actions at times [n], in microseconds; by month, at a month's start."""
    shares = np.array([config.fit_share, config.known_share])
    first, second = (int(t) for t in np.quantile(times_us, shares, method="higher"))
    return (_month_start(first), _month_start(second)) if protocol == "month" else (first, second)


def _two_cuts(data: Dataset, first: int, second: int) -> tuple[Queries, Queries]:
    """Make the queries of the windows [first, second) and [second, end)."""
    begin, end = data.user_bounds()
    at_first = _count_before(data, first)
    at_second = _count_before(data, second)
    return (
        _window(data, begin, begin + at_first, begin + at_second),
        _window(data, begin, begin + at_second, end),
    )


def _count_before(data: Dataset, cut_us: int) -> IntArray:
    early = data.actions.times_us < cut_us
    return np.bincount(data.actions.user_rows[early], minlength=data.n_users)


def _window(data: Dataset, begin: IntArray, low: IntArray, high: IntArray) -> Queries:
    """Ask once a person at the first action of [low, high); halve it where nothing is known."""
    cold = (low == begin) & (high > low)
    cut = np.where(cold, low + (high - low) // 2, low)
    cut = _before_ties(data, begin, cut)
    return _queries(data, begin, cut, high)


def _queries(data: Dataset, begin: IntArray, cut: IntArray, high: IntArray) -> Queries:
    users = np.flatnonzero((cut > begin) & (cut < high))
    return Queries(users, data.actions.times_us[cut[users]], begin[users], cut[users], high[users])


def _before_ties(data: Dataset, begin: IntArray, cut: IntArray) -> IntArray:
    """Move cuts back to the first action of the same person and time: [m] to [m]."""
    actions = data.actions
    if not len(actions):
        return cut
    new = np.ones(len(actions), dtype=bool)
    new[1:] = (actions.user_rows[1:] != actions.user_rows[:-1]) | (
        actions.times_us[1:] != actions.times_us[:-1]
    )
    group = np.maximum.accumulate(np.where(new, np.arange(len(actions)), 0))
    inside = cut < len(actions)
    moved = np.where(inside, group[np.minimum(cut, len(actions) - 1)], cut)
    return np.maximum(moved, begin)


def later_moments(data: Dataset, queries: Queries, moments: int) -> list[Queries]:
    """Ask the same people again later in their windows, `moments` times in all with the first.

    One `Queries` a later moment, evenly by each person's own actions; without the people who have
    too few of them, or too many at one time, to tell the moment from the one before.
    """
    asked, before = queries.stop - queries.cut, queries.cut
    found = []
    for step in range(1, moments):
        cut = _before_ties(data, queries.start, queries.cut + asked * step // moments)
        new = np.flatnonzero(cut > before)
        times_us = data.actions.times_us[cut[new]]
        found.append(replace(queries[new], now_us=times_us, cut=cut[new]))
        before = cut
    return found


def _by_order(data: Dataset, config: SplitConfig) -> Split:
    begin, end = data.user_bounds()
    held = np.ceil((end - begin) * config.order_share).astype(np.int64)
    enough = (end - begin) >= 5
    test_cut = _before_ties(data, begin, np.where(enough, end - held, end))
    valid_cut = _before_ties(data, begin, np.where(enough, end - 2 * held, end))
    place = np.arange(len(data.actions))
    rows = data.actions.user_rows
    sentence = (
        f"each person's order: last {config.order_share:.0%} test, {config.order_share:.0%} "
        "before it ranker and validation, families on the rest; no action to predict counts in "
        "any feature"
    )
    return Split(
        "order",
        sentence,
        place < valid_cut[rows],
        place < test_cut[rows],
        _queries(data, begin, valid_cut, test_cut),
        _queries(data, begin, test_cut, end),
    )


def _month_start(us: int) -> int:
    moment = to_datetime(us)
    return to_us(moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0))
