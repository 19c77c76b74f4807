"""Reasons, sources and rules in words that a person understands."""

from collections.abc import Mapping, Sequence
from typing import Final

from contracts.degrade import SourceName
from contracts.feed import ReasonCode
from contracts.ids import Namespace

REF_NAMESPACE: Final[Mapping[ReasonCode, Namespace]] = {
    ReasonCode.FOLLOWING: Namespace.PERSON,
    ReasonCode.SIMILAR_TO_LIKED: Namespace.POST,
    ReasonCode.RECENT_INTEREST: Namespace.TOPIC,
    ReasonCode.TOPIC: Namespace.TOPIC,
}
"""To what kind of thing a reason refers; the others refer to nothing."""

_REASONS: Final[Mapping[ReasonCode, tuple[str, str]]] = {
    ReasonCode.FOLLOWING: ("Because you follow {ref}", "Because you follow its author"),
    ReasonCode.SIMILAR_TO_LIKED: (
        "Similar to a post that you liked or opened",
        "Similar to posts that you liked or opened",
    ),
    ReasonCode.PEOPLE_LIKE_YOU: ("", "People with a taste like yours reacted to it"),
    ReasonCode.RECENT_INTEREST: (
        "You showed interest in {ref} lately",
        "Close to what interested you lately",
    ),
    ReasonCode.TOPIC: ("On {ref}, one of your topics", "On one of your topics"),
    ReasonCode.TRENDING: ("", "Many people react to it right now"),
    ReasonCode.NEW_POST: ("", "New: it gets a first chance to be seen"),
    ReasonCode.CALLER: ("", "One of the posts that were given to rank"),
}

_SOURCES: Final[Mapping[str, str]] = {
    SourceName.IN_NETWORK: "the people whom the viewer follows",
    SourceName.COLLABORATIVE: "people with the same taste",
    SourceName.DEEP: "the viewer's recent actions",
    SourceName.CONTENT: "the content of posts that the viewer liked",
    SourceName.ITEM_TO_ITEM: "posts near those liked last",
    SourceName.TRENDING: "what is trending",
    SourceName.FRESH: "new posts",
    SourceName.FOLLOWS_OF_FOLLOWS: "the people whom the viewer's follows follow",
    SourceName.CALLER: "the posts that were given to rank",
}

_REMOVALS: Final[Mapping[str, str]] = {
    "duplicate": "the same post stands in the feed already",
    "own": "it is the viewer's own post",
    "blocked": "one of viewer and author has blocked the other",
    "muted_author": "the viewer has muted its author",
    "muted_word": "it holds a word that the viewer has muted",
    "seen": "the viewer has seen it",
    "served_this_session": "it was on a page that was served a moment ago",
    "too_old": "it is older than the policy allows",
    "language": "it is in a language that the viewer does not read",
    "inventory_holdout": "it belongs to the share of posts that is held out for measurement",
    "deleted": "it was deleted",
    "not_visible": "the viewer may not see it",
    "unscored": "no model could score it",
    "over_cap": "more candidates stood before it than the policy lets through",
}


def reason_text(code: ReasonCode, ref: str | None) -> str:
    """Say why a post is in a feed; `ref` is the external id that the reason refers to."""
    with_ref, without = _REASONS[code]
    return with_ref.format(ref=ref) if ref is not None and with_ref else without


def removal_text(word: str) -> str:
    """Say why a rule removed a post."""
    return _REMOVALS.get(word, f"the rule {word} removed it")


def source_text(word: str) -> str:
    """Say what a source, or a family of models, goes by."""
    return _SOURCES.get(word, word)


def listed(parts: Sequence[str]) -> str:
    """Join parts with commas and an `and`."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
