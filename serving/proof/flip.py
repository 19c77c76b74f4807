"""The smallest single change that takes a post onto the first page, or off it.

Sizes are comparable by declaration: an act of the viewer (a follow, a wish taken back) is 0, for it
concerns nobody else; a number of the policy counts by its relative change, so that switching
something off is 1; dropping a rule that protects the feed comes last. Changes are tried from small
to large, and one is named only where the feed, recomputed over the recorded pool and this post with
the same lots, is changed by it. Of each weight a few steps are tried, the first where its value
passes the last served place (linear in the weight): "smallest" means of those tried.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import ceil, floor, inf, log10
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from contracts.degrade import RemovalReason, SourceName
from contracts.feed import Flip, SourceRank
from contracts.policy import Policy
from contracts.value import squeeze
from features.views import FEATURES
from serving.proof.standing import Arranged, Floats, arrange, standing
from serving.stages.decision import Decision
from serving.stages.ledgers import Adjustments

Predict = Callable[[NDArray[np.float16]], NDArray[np.float32]]

_FOLLOWS: Final = FEATURES.index("in_network")
_STEPS: Final = (1.0, 1.2, 1.6)
"""Multiples of a weight's closed-form change that are tried: selection moves with it."""
_BEYOND: Final = 1.0001
_MOST: Final = 4.0
"""A weight that had to grow by more than four times itself is no answer."""
_MORE_OF_AUTHOR: Final = 3
_PLACES: Final = 400
"""Places that may be filled in search of an answer: 20 pages of 20."""
_NEVER_DROPPED: Final = frozenset(
    {RemovalReason.DELETED.word, RemovalReason.NOT_VISIBLE.word, RemovalReason.OWN.word}
)


@dataclass(frozen=True, slots=True)
class Case:
    """A post of a recorded feed, and what keeps it where it is."""

    decision: Decision
    policy: Policy
    base: Arranged
    row: int
    """Its row in the decision."""
    page: int
    on_page: bool
    predict: Predict | None = None
    """The ranker of the record, where it is at hand: following changes what it predicts."""
    found: bool = True
    rules: tuple[str, ...] = ()
    """Rules that remove it."""
    sources: tuple[str, ...] = ()
    """Sources that found it, where they are recorded."""
    ranks: tuple[SourceRank, ...] = ()
    follow_rank: int | None = None
    """At which rank `in_network` would find it if the viewer followed its author."""


class _Option(NamedTuple):
    """One change."""

    change: str
    before: float | None
    after: float | None
    size: float
    policy: Policy
    adjusted: Adjustments | None = None
    predicted: NDArray[np.float32] | None = None
    finds: bool = False
    """A source finds the post after it."""
    loses: bool = False
    """No source finds the post after it."""
    drops: str | None = None
    """The rule that it drops."""


def smallest_flip(case: Case) -> tuple[Flip | None, int]:
    """Find the smallest change that flips the case, and count what was tried."""
    tried = 0
    if case.page < 1 or (not case.on_page and _stands_already(case)):
        return None, tried
    for option in sorted(_options(case), key=lambda option: option.size):
        if not _possible(case, option):
            continue
        if tried * case.page >= _PLACES:
            break
        tried += 1
        place = None if option.loses else _place(case, option)
        if (place is not None) != case.on_page:
            size = None if option.size == inf else option.size
            return Flip(option.change, option.before, option.after, size, place), tried
    return None, tried


def _stands_already(case: Case) -> bool:
    """Say whether nothing holds the post back now: it would be on the page as things stand."""
    place = case.base.place_of(case.row)
    return case.found and not case.rules and place is not None and place < case.page


def _possible(case: Case, option: _Option) -> bool:
    return (case.found or option.finds) and set(case.rules) <= {option.drops}


def _place(case: Case, option: _Option) -> int | None:
    """Recompute the first page under a change: the post's place on it, None where it is not."""
    selection = option.policy.selection.model_copy(update={"slate": case.page})
    policy = option.policy.model_copy(update={"selection": selection})
    changed = arrange(case.decision, policy, option.predicted, option.adjusted, case.row)
    return changed.place_of(case.row)


def _options(case: Case) -> Iterator[_Option]:
    yield from _by_viewer(case)
    yield from _by_weight(case)
    if not case.on_page:
        yield from _by_switch(case)
        yield from _by_quota(case)
        for rule in case.rules[:1]:
            if rule not in _NEVER_DROPPED:
                yield _Option(f"drop.{rule}", None, None, inf, case.policy, drops=rule)


def _by_viewer(case: Case) -> Iterator[_Option]:
    """Following the author or not any more; taking back wishes to see fewer of something."""
    facts, policy = case.decision.adjustments, case.policy
    author = np.asarray(case.decision.record["authors"])
    theirs = (author == author[case.row]) & (author >= 0)
    follows = bool(facts.in_network[case.row])
    viewer = int(case.decision.record["viewer_id"])
    if theirs.any() and follows == case.on_page and author[case.row] != viewer:
        quota = policy.quotas.get(SourceName.IN_NETWORK, 0)
        yield _Option(
            "unfollow_author" if follows else "follow_author", None, None, 0.0, policy,
            facts._replace(in_network=np.where(theirs, not follows, facts.in_network)),
            _followed(case, theirs, not follows),
            finds=case.follow_rank is not None and case.follow_rank <= quota,
            loses=case.sources == (SourceName.IN_NETWORK.value,),
        )  # fmt: skip
    if facts.control[case.row] < 0 and not case.on_page:
        freed = facts._replace(control=np.maximum(facts.control, 0).astype(np.int8))
        yield _Option("lift_wishes", None, None, 0.0, policy, freed)


def _followed(case: Case, rows: NDArray[np.bool_], follows: bool) -> NDArray[np.float32] | None:
    """Predict anew for rows whose author is followed, or is not any more."""
    held = case.decision
    if case.predict is None or not held.features.size:
        return None
    features, predicted = held.features[rows].copy(), held.probabilities.copy()
    features[:, _FOLLOWS] = follows
    predicted[rows] = case.predict(features)
    return predicted


def _by_weight(case: Case) -> Iterator[_Option]:
    """Change one weight until the post is among the best of the first page, or is not any more."""
    parts = _Parts.of(case)
    if not parts.eligible[parts.mine]:
        return
    for path, weight in _weights(case.policy, case.base.ledger.terms):
        term = case.base.ledger.terms[path.partition(".")[2]][case.base.rows]
        for change in _crossings(parts, term / weight, weight, case):
            for step in _STEPS:
                after = _outward(weight, weight + step * change)
                size = abs(after - weight) / abs(weight)
                if _allowed(np.array(after - weight), weight):
                    yield _Option(path, weight, after, size, _changed(case.policy, path, after))


class _Parts(NamedTuple):
    """What the pool's rows count on the first page, if selection stayed as it is; all [p]."""

    mine: int
    net: Floats
    multiplier: Floats
    lift: Floats
    selection: Floats
    """What selection makes of a row: at its own place of the page, or at the last one."""
    eligible: NDArray[np.bool_]

    @classmethod
    def of(cls, case: Case) -> "_Parts":
        """Gather them from the case's feed as it is."""
        base, rows, page = case.base, case.base.rows, case.base.slate.rows[: case.page]
        mine = base.pool_row(case.row)
        here = standing(base.pool, case.policy, page[page != mine][: case.page - 1])
        selection = here.author_decay * here.topic_spread * here.likeness * here.mix
        selection[page] = base.slate.multiplier[: len(page)]
        eligible = ~here.capped
        eligible[page] = True
        none = np.zeros(len(rows))
        return cls(
            mine,
            sum((part[rows] for part in base.ledger.terms.values()), none),
            np.prod([none + 1.0, *(part[rows] for part in base.ledger.multipliers.values())], 0),
            sum((part[rows] for part in base.ledger.lifts.values()), none),
            selection,
            eligible,
        )

    def counted(self, net: Floats) -> Floats:
        """Fold net values [p, k]: what each row counts on the page."""
        lift = np.where(net >= 0.0, self.lift[:, None], 0.0)
        counts = (squeeze(net) * self.multiplier[:, None] + lift) * self.selection[:, None]
        return np.where(self.eligible[:, None], counts, -inf)


def _crossings(parts: _Parts, slope: Floats, weight: float, case: Case) -> Iterator[float]:
    """Find the nearest changes of a weight, up and down, that move the post across the page's end.

    The order can change only where two rows meet (net values are linear in a weight, with slope
    [p], the prediction) and where a net value changes its sign.
    """
    factor = parts.selection * parts.multiplier
    worth, steep = factor * parts.net + parts.selection * parts.lift, factor * slope
    with np.errstate(divide="ignore", invalid="ignore"):
        meets = (worth - worth[parts.mine]) / (steep[parts.mine] - steep)
        points = np.concatenate([meets, -parts.net / slope])
    points = points[np.isfinite(points) & _allowed(points, weight)]
    for sign in (1.0, -1.0):
        changes = sign * np.sort(sign * points[sign * points > 0.0])
        counts = parts.counted(parts.net[:, None] + _BEYOND * changes * slope[:, None])
        ahead = (counts > counts[parts.mine]).sum(axis=0)
        across = np.flatnonzero((ahead < case.page) != case.on_page)
        yield from changes[across[:1]].tolist()


def _allowed(change: Floats, weight: float) -> NDArray[np.bool_]:
    """Say which changes of a weight are answers: not zero, not manifold, and the sign stays."""
    size = np.abs(change) / abs(weight)
    return (size > 0.0) & (size <= _MOST) & ((weight + change) * weight >= 0.0)


def _weights(policy: Policy, terms: Iterable[str]) -> Iterator[tuple[str, float]]:
    """Give path and number of the weight of each term; velocity has none."""
    for name in terms:
        for part, weights in (("blend", policy.blend), ("weights", policy.weights)):
            weight = {str(key): value for key, value in weights.items()}.get(name, 0.0)
            if weight:
                yield f"{part}.{name}", weight


def _by_switch(case: Case) -> Iterator[_Option]:
    """Switch off what lowers the post's value, or let its author have some posts more."""
    base, policy, row = case.base, case.policy, case.row
    here = standing(base.pool, policy, base.slate.rows[: case.page - 1])
    mine = base.pool_row(row)
    costs = base.ledger.multipliers
    one = np.ones(len(case.decision.post_ids))
    if here.capped[mine]:
        path, cap = "selection.max_per_author", policy.selection.max_per_author
        for more in range(cap + 1, cap + _MORE_OF_AUTHOR + 1):
            yield _Option(path, cap, more, more / cap - 1.0, _changed(policy, path, more))
    for path, factor, off in (
        ("selection.author_decay", here.author_decay[mine], 1.0),
        ("selection.topic_decay", here.topic_spread[mine], 1.0),
        ("selection.relevance", here.likeness[mine], 1.0),
        ("fatigue.author_strength", costs.get("author_fatigue", one)[row], 0.0),
        ("fatigue.topic_strength", costs.get("topic_fatigue", one)[row], 0.0),
        ("out_of_network", costs.get("out_of_network", one)[row], 1.0),
    ):
        if factor < 1.0:
            before = _number(policy, path)
            # Off is off: whatever the number was, no part of the rule is left.
            size = abs(off - before) / before if path == "out_of_network" else 1.0
            yield _Option(path, before, off, size, _changed(policy, path, off))


def _by_quota(case: Case) -> Iterator[_Option]:
    """Raise the quota of the source whose list names the post soonest behind its quota.

    Never beyond the room for candidates: what one source gains there another would lose.
    """
    if case.found:
        return
    near = [r for r in case.ranks if r.rank is not None and 0 < r.quota < r.rank]
    for rank in sorted(near, key=lambda r: (r.rank or 0) / r.quota)[:1]:
        wanted, found = rank.rank or 0, json.loads(case.decision.record["source_yield"])
        merged = sum(found.values()) - 2 * found.get("duplicate", 0)
        if merged + wanted - rank.quota <= case.policy.max_candidates:
            yield _Option(
                f"quotas.{rank.source}", rank.quota, wanted, wanted / rank.quota - 1.0,
                case.policy, finds=True,
            )  # fmt: skip


def _number(policy: Policy, path: str) -> float:
    first, _, rest = path.partition(".")
    found = getattr(policy, first)
    return float(getattr(found, rest) if rest else found)


def _changed(policy: Policy, path: str, value: float) -> Policy:
    """Set one number of a policy; it is applied to a recorded pool, never put in force."""
    first, _, rest = path.partition(".")
    if not rest:
        return policy.model_copy(update={first: value})
    part = getattr(policy, first)
    if first in {"weights", "blend"}:
        return policy.model_copy(update={first: {**part, rest: value}})
    return policy.model_copy(update={first: part.model_copy(update={rest: value})})


def _outward(before: float, after: float) -> float:
    """Round to three digits, away from where it was: the number that is named is the one tried."""
    if after == 0.0 or not np.isfinite(after):
        return after
    unit = 10.0 ** (floor(log10(abs(after))) - 2)
    steps = after / unit
    rounded = (ceil(steps) if after > before else floor(steps)) * unit
    return float(f"{rounded:.3g}")
