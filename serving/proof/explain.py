"""Why a post stands where it stands in a recorded feed, or why it does not.

What the record holds is told from the record. For the rest the post is looked at as things stand
now (`serving.proof.why_not`), and the explanation says so.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np

from contracts.degrade import RemovalReason, SourceName
from contracts.feed import Explanation, Placement, Rival
from contracts.policy import ACTIONS, Policy
from serving.proof.flip import Case, Predict, smallest_flip
from serving.proof.standing import Arranged, arrange, standing, with_row
from serving.proof.why_not import Look
from serving.stages.decision import Decision, Record

LookAt = Callable[[int], Look | None]
"""Post id to what can be said of it now; None where no such post is known."""

_NONE: Final = Explanation(0, 0, "not_a_candidate", None)
_ALIKE: Final = 1.0 + 1e-9
"""Values as near as this are one value: sums round."""


@dataclass(frozen=True)
class RecordedFeed:
    """A record under the policy that it names, perhaps with one more row."""

    decision: Decision
    policy: Policy
    added: int = -1
    """The row that the record does not hold."""

    @cached_property
    def arranged(self) -> Arranged:
        """Lay the feed out as it was selected."""
        return arrange(self.decision, self.policy, kept=self.added)

    @property
    def page(self) -> int:
        """Count the posts of the first page, as far as they were chosen place by place."""
        return min(int(self.decision.record["limit"]), len(self.arranged.slate.rows))

    @property
    def holds_all(self) -> bool:
        """Say whether every candidate that no rule removed has a place in the record."""
        return len(self.decision.reserve_values) < self.policy.selection.reserve

    def case(self, row: int, on_page: bool, predict: Predict | None) -> Case:
        """Make the case of a row whose place alone is in question."""
        return Case(self.decision, self.policy, self.arranged, row, self.page, on_page, predict)


def explain_post(
    record: Record, policy: Policy, post_id: int, look_at: LookAt, predict: Predict | None = None
) -> Explanation:
    """Explain one post of a recorded feed.

    `predict` is the ranker of the record's own bundle, where it is at hand.
    """
    feed = RecordedFeed(Decision.of(record), policy)
    shown = min(int(record["limit"]), len(feed.decision.ordered_ids))
    start = replace(_NONE, feed_id=int(record["feed_id"]), post_id=post_id, page=shown)
    places = np.flatnonzero(feed.decision.ordered_ids == post_id)
    position = int(places[0]) if len(places) else None
    if not feed.decision.ranked:
        outcome = start.outcome if position is None else "served"
        return replace(start, outcome=outcome, position=position, note=str(record["level"]))
    pooled = np.flatnonzero(feed.decision.post_ids == post_id)
    if len(pooled):
        return _of_pool(start, feed, int(pooled[0]), position, predict)
    removed = np.flatnonzero(np.asarray(record["removed_ids"]) == post_id)
    if position is not None:
        value = float(feed.decision.reserve_values[position - len(feed.decision.slate)])
        start = replace(start, outcome="reserve", position=position, value=value)
        start = replace(start, behind=_behind(feed, position, value))
    elif len(removed):
        word = RemovalReason(int(record["removed_reasons"][removed[0]])).word
        start = replace(start, outcome="removed", removed_by=word, rules_now=(word,))
    look = look_at(post_id)
    if look is None:
        return replace(start, note="unknown_post")
    return _of_look(start, feed, look, predict)


def _of_pool(
    start: Explanation, feed: RecordedFeed, row: int, position: int | None, predict: Predict | None
) -> Explanation:
    """Explain a row of the pool: all of it stands in the record."""
    on_page = position is not None and position < feed.page
    bits = int(feed.decision.record["sources"][row])
    behind = "reserve" if position is not None else "outranked"
    told = replace(
        _with_row_parts(start, feed, row),
        outcome=behind if feed.arranged.place_of(row) is None else "served",
        position=position,
        sources=tuple(s.value for s in SourceName if bits & s.bit),
    )
    if position:
        value = float(feed.arranged.ledger.value[row])
        told = replace(told, behind=_behind(feed, position, value, told.value))
    return _flipped(told, replace(feed.case(row, on_page, predict), sources=told.sources))


def _of_look(
    start: Explanation, feed: RecordedFeed, look: Look, predict: Predict | None
) -> Explanation:
    """Explain a post of which the record holds no features, with what can be computed now."""
    if look.posted_after:
        return replace(start, note="posted_after")
    placed = start.position is not None
    rules = () if placed else _rules(start.rules_now, feed.decision.record, look.rules)
    start = replace(
        start, rules_now=rules, sources_now=look.sources, actions_since=look.actions_since,
        bundle_now=None if look.bundle_id == feed.decision.record["bundle_id"] else look.bundle_id,
    )  # fmt: skip
    if look.row is None:
        return replace(start, note="not_computed")
    decision = with_row(feed.decision, look.row)
    row = len(decision.post_ids) - 1
    wider = RecordedFeed(decision, feed.policy, row)
    value = float(wider.arranged.ledger.value[row])
    told = replace(
        _with_row_parts(start, wider, row), value=start.value, value_now=value,
        would_stand=None if placed else _would_stand(wider, row, value),
    )  # fmt: skip
    found = any(s.rank is not None and s.rank <= s.quota for s in look.sources)
    if start.outcome == "not_a_candidate":
        told = _judged(told, feed, found)
    case = replace(
        wider.case(row, False, predict),
        found=placed or found or start.outcome == "removed",
        rules=rules,
        ranks=look.sources,
        follow_rank=look.follow_rank,
    )
    return _flipped(told, case)


def _flipped(told: Explanation, case: Case) -> Explanation:
    """Add the smallest change; none where the reserve fills a page that the slate leaves short."""
    if told.position is not None and case.page <= told.position < told.page:
        return replace(told, lost_to=None)
    flip, tried = smallest_flip(case)
    return replace(told, flip=flip, flips_tried=tried)


def _judged(told: Explanation, feed: RecordedFeed, found: bool) -> Explanation:
    """Name the outcome of a post that the record does not hold."""
    if found and told.rules_now:
        return replace(told, outcome="removed", removed_by=told.rules_now[0], from_record=False)
    if found and not feed.holds_all and told.would_stand is None:
        return replace(told, outcome="outranked", from_record=False)
    certain = feed.holds_all and float(feed.decision.record["removed_rate"]) >= 1.0
    return replace(told, from_record=certain)


def _rules(
    recorded: tuple[str, ...], record: Record, now: tuple[RemovalReason, ...]
) -> tuple[str, ...]:
    """Name the rules that stand against a post: the recorded one, then those of now.

    Where no rule is recorded, one of now counts only if the feed lost more posts to it than the
    record lists: otherwise it cannot have removed the post then.
    """
    if recorded:
        return (*recorded, *(rule.word for rule in now if rule.word not in recorded))
    counts: dict[str, int] = json.loads(record["removed_counts"])
    listed = np.asarray(record["removed_reasons"])
    return tuple(rule.word for rule in now if counts.get(rule.word, 0) > (listed == rule).sum())


def _with_row_parts(start: Explanation, feed: RecordedFeed, row: int) -> Explanation:
    """Tell value, ledger and predictions of a row, and what selection makes of it."""
    decision, arranged = feed.decision, feed.arranged
    parts, value = arranged.ledger.row(row), float(arranged.ledger.value[row])
    place, recorded = arranged.place_of(row), row != feed.added
    on_page = place is not None and place < feed.page
    if place is not None and recorded:
        parts["mult.selection"] = float(arranged.slate.multiplier[place])
        value *= parts["mult.selection"]
    predicted = decision.probabilities
    named = zip(ACTIONS, predicted[row].tolist(), strict=True) if predicted.size else ()
    at = place if place is not None and (recorded or on_page) else feed.page - 1
    return replace(
        start,
        value=value,
        ledger=parts,
        probabilities={action.value: chance for action, chance in named},
        placement=_placement(feed, row, at, place == at),
        lost_to=None if on_page else _last_of_page(feed, row),
    )


def _placement(feed: RecordedFeed, row: int, at: int, stands_here: bool) -> Placement:
    """Take apart what selection makes of a row at a place, where it stands or would like to."""
    arranged, chosen = feed.arranged, feed.arranged.slate.rows
    mine, here = arranged.pool_row(row), standing(arranged.pool, feed.policy, chosen[:at])
    chance = float(arranged.slate.propensity[at])
    drawn = stands_here and chance < 1.0
    barred = "author_cap" if here.capped[mine] else None if here.open[mine] else "mix"
    best = int(np.where(here.open if drawn else here.free, here.values, -np.inf).argmax())
    instead = None
    if stands_here and here.values[best] > here.values[mine] * _ALIKE:
        instead = _rival(feed, best, float(here.values[best] - here.values[mine]))
    return Placement(
        at,
        float(here.author_decay[mine]),
        float(here.topic_spread[mine]),
        float(here.likeness[mine]),
        float(here.mix[mine]),
        None if stands_here else barred,
        drawn,
        chance if drawn else 1.0,
        instead,
    )


def _last_of_page(feed: RecordedFeed, row: int) -> Rival:
    """Say who has the last place of the first page, and how much more that post counts there."""
    arranged, last = feed.arranged, feed.page - 1
    here = standing(arranged.pool, feed.policy, arranged.slate.rows[:last])
    theirs, mine = int(arranged.slate.rows[last]), arranged.pool_row(row)
    return _rival(feed, theirs, float(here.values[theirs] - here.values[mine]))


def _rival(feed: RecordedFeed, pool_row: int, by: float) -> Rival:
    row = int(feed.arranged.rows[pool_row])
    place = feed.arranged.place_of(row)
    post_id = int(feed.decision.post_ids[row])
    return Rival(post_id, len(feed.arranged.slate.rows) if place is None else place, by)


def _behind(
    feed: RecordedFeed, position: int, value: float, in_place: float | None = None
) -> dict[str, float | str]:
    """Say which post is one place ahead, and by how much, before selection and in its place."""
    if position == 0:
        return {}
    slate, ahead = feed.decision.slate, position - 1
    told: dict[str, float | str] = {"post_id": str(int(feed.decision.ordered_ids[ahead]))}
    if ahead < len(slate):
        raw = float(feed.decision.ledger(feed.policy).value[slate[ahead]])
    else:
        raw, in_place = float(feed.decision.reserve_values[ahead - len(slate)]), None
    told["value_before_selection"] = raw - value
    if in_place is not None:
        told["value_in_place"] = raw * float(feed.arranged.slate.multiplier[ahead]) - in_place
    return told


def _would_stand(feed: RecordedFeed, row: int, value: float) -> int | None:
    """Give the place that a value of now has in the recorded feed; None: behind them all."""
    place = feed.arranged.place_of(row)
    if place is not None and len(feed.arranged.rows) <= feed.policy.selection.pool:
        return place
    ahead = int((feed.decision.reserve_values > value).sum())
    if ahead == len(feed.decision.reserve_values) and not feed.holds_all:
        return None
    return len(feed.decision.slate) + ahead
