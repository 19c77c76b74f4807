"""What about a data set will hurt: each rule looks at the facts and says so in a sentence."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from contracts.clock import DAY_US
from contracts.events import POSITIVE_ACTIONS, EventType
from features.segments import times_of


@dataclass(frozen=True, slots=True)
class Facts:
    """What the rules look at."""

    dataset: dict[str, object]
    types: NDArray[np.int64]
    """Of every event, [n]."""
    times: NDArray[np.int64]
    assumed: NDArray[np.bool_]
    activity: NDArray[np.int64]
    """Positive actions of each person."""
    popularity: NDArray[np.int64]
    """Positive actions on each post."""
    posts: pa.Table
    follows: pa.Table
    early_events: int


@dataclass(frozen=True, slots=True)
class Warned:
    """One warning: a stable code, and a sentence with the figure and what it means."""

    code: str
    text: str


Rule = Callable[[Facts], Warned | None]


def warnings_of(facts: Facts) -> list[Warned]:
    """Apply every rule, in order of weight."""
    return [warned for rule in RULES if (warned := rule(facts)) is not None]


def _no_events(facts: Facts) -> Warned | None:
    if len(facts.types):
        return None
    return Warned("no_events", "There are no events: only what is new or followed can be ranked.")


def _no_positive(facts: Facts) -> Warned | None:
    if not len(facts.types) or np.isin(facts.types, [int(t) for t in POSITIVE_ACTIONS]).any():
        return None
    return Warned(
        "no_positive_actions", "No event is a positive action: nothing can be learned from them."
    )


def _no_impressions(facts: Facts) -> Warned | None:
    shown = (EventType.SERVED, EventType.IMPRESSION, EventType.VIEW)
    if not len(facts.types) or np.isin(facts.types, [int(t) for t in shown]).any():
        return None
    return Warned(
        "no_impressions",
        "No event says what was shown: negatives are sampled, and predicted probabilities are "
        "relative, not calibrated.",
    )


def _one_type(facts: Facts) -> Warned | None:
    kinds = np.unique(facts.types)
    if len(kinds) != 1:
        return None
    word = EventType(int(kinds[0])).word
    return Warned("one_event_type", f"All events are of type {word}: only that can be predicted.")


def _few_events(facts: Facts) -> Warned | None:
    active = facts.activity[facts.activity > 0]
    if not len(active) or np.median(active) >= 10:
        return None
    return Warned(
        "few_events_per_person",
        f"The median active person has {np.median(active):g} positive actions: personal ranking "
        "will be weak, popularity hard to beat.",
    )


def _cold_people(facts: Facts) -> Warned | None:
    share = _share(facts.activity == 0)
    if share < 0.3:
        return None
    return Warned(
        "cold_people", f"{share:.0%} of the people have no positive action: they get a cold feed."
    )


def _cold_posts(facts: Facts) -> Warned | None:
    share = _share(facts.popularity == 0)
    if share < 0.3:
        return None
    return Warned(
        "cold_posts",
        f"{share:.0%} of the posts have no positive action: only content and freshness reach them.",
    )


def _undated(facts: Facts) -> Warned | None:
    if facts.dataset.get("split") != {"kind": "order"}:
        return None
    return Warned(
        "undated",
        "Event times were made from each person's order: evaluate by order, and trust nothing "
        "about trends or freshness.",
    )


def _days_only(facts: Facts) -> Warned | None:
    if not len(facts.times) or _share(facts.times % DAY_US == 0) < 0.9:
        return None
    return Warned(
        "days_only",
        "Event times are whole days: the order within a day is not known, and features of hours "
        "mean nothing.",
    )


def _burst(facts: Facts) -> Warned | None:
    if len(facts.times) < 100:
        return None
    days, counts = np.unique(facts.times // DAY_US, return_counts=True)
    if len(days) < 3 or counts.max() < 0.2 * counts.sum():
        return None
    day = np.datetime64(int(days[counts.argmax()]), "D")
    return Warned(
        "one_day_burst",
        f"{counts.max() / counts.sum():.0%} of the events fall on {day}: an import or a load "
        "test? A time split near it misleads.",
    )


def _short(facts: Facts) -> Warned | None:
    if not len(facts.times) or facts.times[-1] - facts.times[0] >= 7 * DAY_US:
        return None
    return Warned(
        "short_span", "The events span less than a week: weekly habits and decay cannot be learned."
    )


def _early(facts: Facts) -> Warned | None:
    if not facts.early_events:
        return None
    return Warned(
        "events_before_posts",
        f"{facts.early_events} events lie before the creation of their post: one of the two times "
        "is wrong, and candidates at that time will lack the post.",
    )


def _known_assumed(facts: Facts) -> Warned | None:
    if not len(facts.assumed) or _share(facts.assumed) < 0.5:
        return None
    return Warned(
        "known_time_assumed",
        f"{_share(facts.assumed):.0%} of the events have no known time: it is taken to be the "
        "event time, so late arrival cannot be seen.",
    )


def _undated_follows(facts: Facts) -> Warned | None:
    if not facts.follows.num_rows:
        return Warned("no_follows", "There are no follows: nothing can come from followed authors.")
    if _share(times_of(facts.follows, "since") == 0) < 0.5:
        return None
    return Warned(
        "undated_follows",
        "Follows have no time: they count as older than all events, so training may see follows "
        "that came later.",
    )


def _texts(facts: Facts) -> Warned | None:
    texts = facts.posts.column("text")
    if not len(texts):
        return None
    empty = pc.sum(pc.equal(texts, "")).as_py() / len(texts)
    if empty < 0.2:
        return None
    return Warned("texts_missing", f"{empty:.0%} of the posts have no text: content knows nothing.")


def _double_texts(facts: Facts) -> Warned | None:
    texts = facts.posts.column("text").filter(pc.not_equal(facts.posts.column("text"), ""))
    if not len(texts):
        return None
    double = 1 - pc.count_distinct(texts).as_py() / len(texts)
    if double < 0.05:
        return None
    return Warned(
        "duplicate_texts", f"{double:.0%} of the posts repeat another one's text: reposts or spam?"
    )


def _topics(facts: Facts) -> Warned | None:
    if not facts.posts.num_rows:
        return None
    none = pc.mean(pc.equal(pc.list_value_length(facts.posts.column("topics")), 0)).as_py()
    if none < 0.5:
        return None
    return Warned("topics_missing", f"{none:.0%} of the posts have no topic: no topic affinity.")


def _authors(facts: Facts) -> Warned | None:
    if not facts.posts.num_rows:
        return None
    none = facts.posts.column("author_id").null_count / facts.posts.num_rows
    if none < 0.5:
        return None
    return Warned(
        "authors_missing",
        f"{none:.0%} of the posts have no author: no author affinity, and follows bring no posts.",
    )


def _share(flags: NDArray[np.bool_]) -> float:
    return float(flags.mean()) if len(flags) else 0.0


RULES: Final[tuple[Rule, ...]] = (
    _no_events,
    _no_positive,
    _no_impressions,
    _undated,
    _early,
    _few_events,
    _cold_people,
    _cold_posts,
    _burst,
    _short,
    _days_only,
    _one_type,
    _known_assumed,
    _undated_follows,
    _authors,
    _topics,
    _texts,
    _double_texts,
)
