"""Every stored state column and every ranker feature, as plain data.

A view is what is kept an entity (counters that fold the event log); a feature is one input column
of the ranker, finished from views, histories and the follow graph at the time of a query.
"""

from dataclasses import dataclass
from datetime import timedelta
from hashlib import blake2b
from math import inf
from typing import Final, NamedTuple

from contracts.clock import DAY_US, HOUR_US
from contracts.events import NEGATIVE_ACTIONS, POSITIVE_ACTIONS, UNDO_OF, EventType
from contracts.policy import FAMILIES

HALF_LIFE_6H_US: Final = 6.0 * HOUR_US
HALF_LIFE_7D_US: Final = 7.0 * DAY_US
FOREVER_US: Final = inf
AFFINITY_HALF_LIFE_US: Final = HALF_LIFE_7D_US
WINDOW_HOURS: Final = 24
RATE_PRIOR_POSITIVE: Final = 1.0
RATE_PRIOR_IMPRESSIONS: Final = 20.0
RATE_PRIOR_ACTIONS: Final = 10.0


class Counter(NamedTuple):
    """One decayed counter: its name, half-life in microseconds, and the event types it counts."""

    name: str
    half_life_us: float
    counts: tuple[EventType, ...]


@dataclass(frozen=True, slots=True)
class View:
    """What is stored an entity: key column, counters, columns beside them, and time to live."""

    name: str
    key: str
    counters: tuple[Counter, ...]
    extras: tuple[str, ...]
    ttl: timedelta

    @property
    def columns(self) -> tuple[str, ...]:
        """Stored value columns, in order: counters, then extras."""
        return (*(c.name for c in self.counters), *self.extras)


_E = EventType
_TTL: Final = timedelta(days=3650)
"""Decayed state never goes stale by itself, so views live longer than any log at hand."""

# Counters of one half-life stand together: `CounterState` decays them as one slice.
POST_VIEW: Final = View(
    name="post_state",
    key="post_id",
    counters=(
        Counter("positive_6h", HALF_LIFE_6H_US, POSITIVE_ACTIONS),
        Counter("click_7d", HALF_LIFE_7D_US, (_E.CLICK,)),
        Counter("like_7d", HALF_LIFE_7D_US, (_E.LIKE,)),
        Counter("comment_7d", HALF_LIFE_7D_US, (_E.COMMENT,)),
        Counter("repost_7d", HALF_LIFE_7D_US, (_E.REPOST, _E.SHARE)),
        Counter("save_7d", HALF_LIFE_7D_US, (_E.SAVE,)),
        Counter("negative_7d", HALF_LIFE_7D_US, NEGATIVE_ACTIONS),
        Counter("impression_7d", HALF_LIFE_7D_US, (_E.IMPRESSION,)),
        Counter("click_all", FOREVER_US, (_E.CLICK,)),
        Counter("like_all", FOREVER_US, (_E.LIKE,)),
        Counter("impression_all", FOREVER_US, (_E.IMPRESSION,)),
    ),
    extras=("positive_24h",),
    ttl=_TTL,
)
AUTHOR_VIEW: Final = View(
    name="author_state",
    key="author_id",
    counters=(
        Counter("positive_7d", HALF_LIFE_7D_US, POSITIVE_ACTIONS),
        Counter("negative_7d", HALF_LIFE_7D_US, NEGATIVE_ACTIONS),
        Counter("posts_7d", HALF_LIFE_7D_US, ()),  # counted from posts, not from events
    ),
    extras=("followers",),
    ttl=_TTL,
)
PERSON_VIEW: Final = View(
    name="person_state",
    key="person_id",
    counters=(
        Counter("click_7d", HALF_LIFE_7D_US, (_E.CLICK,)),
        Counter("like_7d", HALF_LIFE_7D_US, (_E.LIKE,)),
        Counter("comment_7d", HALF_LIFE_7D_US, (_E.COMMENT,)),
        Counter("repost_7d", HALF_LIFE_7D_US, (_E.REPOST, _E.SHARE, _E.SAVE)),
        Counter("negative_7d", HALF_LIFE_7D_US, NEGATIVE_ACTIONS),
    ),
    extras=("follows",),
    ttl=_TTL,
)
VIEWS: Final = (POST_VIEW, AUTHOR_VIEW, PERSON_VIEW)
AUTHOR_POSTS_COLUMN: Final = 2
"""Column of `posts_7d` in the author view."""

TEXT_STATS: Final = ("text_length", "text_words", "topics", "has_question", "has_url")


class Feature(NamedTuple):
    """One ranker input: where it comes from, how, its unit, and what null means."""

    name: str
    view: str
    formula: str
    unit: str
    null: str


def _half_life(counter: Counter) -> str:
    if counter.half_life_us == FOREVER_US:
        return "never forgotten"
    return f"half-life {counter.half_life_us / HOUR_US:g} h"


def _counted(prefix: str, view: View) -> tuple[Feature, ...]:
    return tuple(
        Feature(
            f"{prefix}_{c.name}",
            view.name,
            f"log(1 + count of {' + '.join(t.word for t in c.counts)}, {_half_life(c)})",
            "log events",
            "never: no event is a count of 0",
        )
        for c in view.counters
        if c.counts
    )


_NEVER = "never"
_POST = POST_VIEW.name
_AUTHOR = AUTHOR_VIEW.name
_PERSON = PERSON_VIEW.name

POST_FEATURES: Final = (
    Feature("post_age", _POST, "log(1 + hours since created)", "log hours", _NEVER),
    *_counted("post", POST_VIEW),
    Feature("post_positive_24h", _POST, "log(1 + positive actions in the last 24 clock hours)",
            "log events", "never: no event is a count of 0"),
    Feature("post_positive_rate", _POST,
            "(1 + decayed positive actions) / (20 + decayed impressions), 7 d", "ratio",
            "no impression of the post was ever recorded"),
    Feature("post_text_length", "post text", "log(1 + characters)", "log characters", _NEVER),
    Feature("post_text_words", "post text", "log(1 + words)", "log words", _NEVER),
    Feature("post_topics", "post", "number of topics, at most 4", "topics", _NEVER),
    Feature("post_has_question", "post text", "1 where the text holds a question mark", "0 or 1",
            _NEVER),
    Feature("post_has_url", "post text", "1 where the text holds a link", "0 or 1", _NEVER),
)  # fmt: skip
AUTHOR_FEATURES: Final = (
    Feature("author_followers", _AUTHOR, "log(1 + followers)", "log people",
            "the post has no author"),
    Feature("author_positive_7d", _AUTHOR, "log(1 + decayed positive actions on posts, 7 d)",
            "log events", "the post has no author"),
    Feature("author_negative_rate", _AUTHOR, "negative / (10 + positive + negative), 7 d", "ratio",
            "the post has no author"),
    Feature("author_posts_7d", _AUTHOR, "log(1 + decayed count of posts made)", "log posts",
            "the post has no author"),
)  # fmt: skip
VIEWER_FEATURES: Final = (
    *_counted("viewer", PERSON_VIEW),
    Feature("viewer_follows", _PERSON, "log(1 + people followed)", "log people", _NEVER),
    Feature("viewer_hours_since", "history", "log(1 + hours since the last action)", "log hours",
            "the viewer has no action"),
)  # fmt: skip
CROSS_FEATURES: Final = (
    Feature("in_network", "graph", "1 where the viewer follows the author", "0 or 1", _NEVER),
    Feature("author_affinity", "history", "log(1 + actions on the author, half-life 7 d)",
            "log events", "the post has no author"),
    Feature("author_hours_since", "history", "log(1 + hours since the last action on the author)",
            "log hours", "no action on the author in the history"),
    Feature("author_seen_count", "history", "log(1 + actions on the author in the history)",
            "log events", "the post has no author"),
    Feature("topic_affinity", "history",
            "log(1 + mean over the post's topics of actions on the topic, half-life 7 d)",
            "log events", "the post has no topic"),
    Feature("topic_share", "history",
            "largest share of one of the post's topics in the viewer's decayed actions", "ratio",
            "the post has no topic or the viewer no action"),
    Feature("same_language", "post, person", "1 where the languages are equal", "0 or 1",
            "either language is unknown"),
)  # fmt: skip
FAMILY_FEATURES: Final = tuple(
    Feature(f"score_{family}", "bundle", f"normalised score of the {family} family", "0 to 1",
            "the family cannot score this viewer or post")
    for family in FAMILIES
)  # fmt: skip
FEATURE_TABLE: Final = (
    *POST_FEATURES, *AUTHOR_FEATURES, *VIEWER_FEATURES, *CROSS_FEATURES, *FAMILY_FEATURES,
)  # fmt: skip

FEATURES: Final = tuple(f.name for f in FEATURE_TABLE)
"""Ordered names of the ranker's input columns."""
FEATURE_HASH: Final = blake2b(
    "\n".join(f"{f.name}\t{f.formula}" for f in FEATURE_TABLE).encode(), digest_size=8
).hexdigest()
"""16 hexadecimal digits over names and formulas: a bundle trained on others does not load."""


def counted_types(view: View) -> dict[EventType, list[tuple[int, float]]]:
    """Route event types to (column, weight): +1 for what is counted, -1 for its undo."""
    undone_by = {done: undo for undo, done in UNDO_OF.items()}
    routes: dict[EventType, list[tuple[int, float]]] = {}
    for column, counter in enumerate(view.counters):
        for counted in counter.counts:
            routes.setdefault(counted, []).append((column, 1.0))
            if counted in undone_by:
                routes.setdefault(undone_by[counted], []).append((column, -1.0))
    return routes
