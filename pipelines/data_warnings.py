"""What about a data set will hurt: each rule looks at the facts and says so in a sentence."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from contracts.clock import DAY_US
from contracts.events import POSITIVE_ACTIONS, EventType
from features.segments import integers_of

_SHOWN = (EventType.SERVED, EventType.IMPRESSION, EventType.VIEW)


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


def warnings_of(facts: Facts) -> list[Warned]:
    """Apply every rule, in order of weight."""
    rules = (_of_events, _of_actions, _of_times, _of_follows, _of_posts)
    return [Warned(code, text) for rule in rules for code, text in rule(facts)]


def _of_events(facts: Facts) -> Iterator[tuple[str, str]]:
    if not len(facts.types):
        yield "no_events", "There are no events: only what is new or followed can be ranked."
    elif not _any_of(facts, POSITIVE_ACTIONS):
        yield (
            "no_positive_actions",
            "No event is a positive action: nothing can be learned from them.",
        )
    if len(facts.types) and not _any_of(facts, _SHOWN):
        yield (
            "no_impressions",
            "No event says what was shown: negatives are sampled, and predicted probabilities are "
            "relative, not calibrated.",
        )
    if facts.dataset.get("split") == {"kind": "order"}:
        yield (
            "undated",
            "Event times were made from each person's order: evaluate by order, and trust nothing "
            "about trends or freshness.",
        )
    if facts.early_events:
        yield (
            "events_before_posts",
            f"{facts.early_events} events lie before the creation of their post: one of the two "
            "times is wrong, and candidates at that time will lack the post.",
        )


def _of_actions(facts: Facts) -> Iterator[tuple[str, str]]:
    active = facts.activity[facts.activity > 0]
    if len(active) and np.median(active) < 10:
        yield (
            "few_events_per_person",
            f"The median active person has {np.median(active):g} positive actions: personal "
            "ranking will be weak, popularity hard to beat.",
        )
    if (cold := _share(facts.activity == 0)) >= 0.3:
        text = f"{cold:.0%} of the people have no positive action: they get a cold feed."
        yield "cold_people", text
    if (cold := _share(facts.popularity == 0)) >= 0.3:
        said = f"{cold:.0%} of the posts have no positive action: "
        yield "cold_posts", f"{said}only content and freshness reach them."


def _of_times(facts: Facts) -> Iterator[tuple[str, str]]:
    days, counts = np.unique(facts.times // DAY_US, return_counts=True)
    if len(facts.times) >= 100 and len(days) >= 3 and counts.max() >= 0.2 * counts.sum():
        day = np.datetime64(int(days[counts.argmax()]), "D")
        yield (
            "one_day_burst",
            f"{counts.max() / counts.sum():.0%} of the events fall on {day}: an import or a load "
            "test? A time split near it misleads.",
        )
    if len(facts.times) and facts.times[-1] - facts.times[0] < 7 * DAY_US:
        text = "The events span less than a week: weekly habits and decay cannot be learned."
        yield "short_span", text
    if _share(facts.times % DAY_US == 0) >= 0.9:
        yield (
            "days_only",
            "Event times are whole days: the order within a day is not known, and features of "
            "hours mean nothing.",
        )
    kinds = np.unique(facts.types)
    if len(kinds) == 1:
        word = EventType(int(kinds[0])).word
        yield "one_event_type", f"All events are of type {word}: only that can be predicted."
    if (assumed := _share(facts.assumed)) >= 0.5:
        yield (
            "known_time_assumed",
            f"{assumed:.0%} of the events have no known time: it is taken to be the event time, so "
            "late arrival cannot be seen.",
        )


def _of_follows(facts: Facts) -> Iterator[tuple[str, str]]:
    if not facts.follows.num_rows:
        yield "no_follows", "There are no follows: nothing can come from followed authors."
    elif _share(integers_of(facts.follows, "since") == 0) >= 0.5:
        yield (
            "undated_follows",
            "Follows have no time: they count as older than all events, so training may see "
            "follows that came later.",
        )


def _of_posts(facts: Facts) -> Iterator[tuple[str, str]]:
    posts, texts = facts.posts, facts.posts.column("text")
    if not posts.num_rows:
        return
    none = posts.column("author_id").null_count / posts.num_rows
    if none >= 0.5:
        said = f"{none:.0%} of the posts have no author: "
        yield "authors_missing", f"{said}no author affinity, and follows bring no posts."
    none = pc.mean(pc.equal(pc.list_value_length(posts.column("topics")), 0)).as_py()
    if none >= 0.5:
        yield "topics_missing", f"{none:.0%} of the posts have no topic: no topic affinity."
    none = pc.sum(pc.equal(texts, "")).as_py() / posts.num_rows
    if none >= 0.2:
        yield "texts_missing", f"{none:.0%} of the posts have no text: content knows nothing."
    texts = texts.filter(pc.not_equal(texts, ""))
    double = 1 - pc.count_distinct(texts).as_py() / max(len(texts), 1)
    if len(texts) and double >= 0.05:
        text = f"{double:.0%} of the posts repeat another one's text: reposts or spam?"
        yield "duplicate_texts", text


def _any_of(facts: Facts, kinds: Iterable[EventType]) -> bool:
    return bool(np.isin(facts.types, [int(kind) for kind in kinds]).any())


def _share(flags: NDArray[np.bool_]) -> float:
    return float(flags.mean()) if len(flags) else 0.0
