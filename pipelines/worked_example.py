"""The worked example: one viewer's feed before and after three likes on one topic."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final

import numpy as np

from contracts.events import POSITIVE_ACTIONS, EventType
from contracts.ids import Namespace
from features.workspace import Workspace
from pipelines.console import Reporter
from pipelines.feeds import FeedRow, answer_rows
from pipelines.platform_client import PlatformClient

PAGE: Final = 20
LIKES: Final = 3
RARE: Final = 2
"""A topic is rare on a page where so many of its posts, or fewer, are on it."""
TYPICAL: Final = (10, 40)
LITTLE_KNOWN: Final = (3, 8)
"""Clicks and likes of people for whom three more change what is known."""


@dataclass(frozen=True, slots=True)
class WorkedExample:
    """What three likes changed."""

    viewer: str
    topic: str
    liked: tuple[str, ...]
    before: tuple[FeedRow, ...]
    after: tuple[FeedRow, ...]
    seconds: float
    """From sending the likes to the answer that they are applied."""

    @property
    def shares(self) -> tuple[float, float]:
        """Give the topic's share of the page, before and after."""
        return self._share(self.before), self._share(self.after)

    def _share(self, rows: Sequence[FeedRow]) -> float:
        return sum(self.topic in row.topics for row in rows) / max(len(rows), 1)

    def as_json(self) -> dict[str, Any]:
        """Give the summary that `--json` prints."""
        before, after = self.shares
        return {
            "viewer": self.viewer,
            "topic": self.topic,
            "liked": list(self.liked),
            "share_before": before,
            "share_after": after,
            "applied_seconds": round(self.seconds, 3),
        }


def some_viewers(workspace: Workspace, count: int, actions: tuple[int, int]) -> list[str]:
    """Choose people with so many clicks and likes (least, most), or nearest to that.

    Always the same ones; fewer where there are not so many.
    """
    likes = workspace.log.scan(types=[EventType.LIKE, EventType.CLICK], columns=["viewer_id"])
    people, number = np.unique(likes["viewer_id"].to_numpy(), return_counts=True)
    apart = np.maximum(np.maximum(actions[0] - number, number - actions[1]), 0)
    typical = people[apart == apart.min()] if len(people) else people
    places = np.linspace(0, len(typical) - 1, min(count, len(typical))).astype(np.int64)
    return workspace.ids.external(Namespace.PERSON, typical[places])


def three_likes(
    workspace: Workspace, client: PlatformClient, viewer: str, now_us: int
) -> WorkedExample:
    """Read a feed, like three posts on a topic that is rare in it, and read the feed again."""
    before = answer_rows(workspace, client.feed(viewer, PAGE), now_us)
    topic, posts = _rare_topic(workspace, viewer, before)
    start = perf_counter()
    client.act(viewer, "like", posts)
    seconds = perf_counter() - start
    after = answer_rows(workspace, client.feed(viewer, PAGE), now_us)
    return WorkedExample(viewer, topic, tuple(posts), tuple(before), tuple(after), seconds)


def print_example(report: Reporter, example: WorkedExample) -> None:
    """Print both pages by topic, and what became of the topic."""
    before = Counter(_first(row) for row in example.before)
    after = Counter(_first(row) for row in example.after)
    topics = [topic for topic, _ in (before + after).most_common(8)]
    if example.topic not in topics:
        topics.append(example.topic)
    share_before, share_after = example.shares
    report.say("")
    report.say(
        f"{example.viewer} likes {', '.join(example.liked)}, all on {example.topic}; "
        f"feeds knew it after {example.seconds * 1000:.0f} ms"
    )
    report.table(
        f"Posts by topic among the first {PAGE}, before and after",
        ("topic", "before", "after"),
        [(topic, before[topic], after[topic]) for topic in topics],
    )
    report.say(
        f"Posts on {example.topic}: {share_before:.0%} of the page before, {share_after:.0%} after",
        style="bold",
    )


def _first(row: FeedRow) -> str:
    return row.topics[0] if row.topics else "(none)"


def _rare_topic(
    workspace: Workspace, viewer: str, page: Sequence[FeedRow]
) -> tuple[str, list[str]]:
    """Choose what people act on most among the topics that are rare on a page, and three posts.

    The posts are those on the topic that people acted on most, less what the viewer has seen.
    """
    acted = workspace.log.scan(types=POSITIVE_ACTIONS, columns=["viewer_id", "post_id"])
    times = Counter(acted["post_id"].to_pylist())
    posts = workspace.catalog.posts(include_deleted=False)
    on_topic: dict[int, list[int]] = defaultdict(list)
    for post, about in zip(posts["post_id"].to_pylist(), posts["topics"].to_pylist(), strict=True):
        for topic in about:
            on_topic[topic].append(post)
    shown = Counter(topic for row in page for topic in row.topics)
    numbers, names = workspace.catalog.topics()
    strength = {
        topic: sum(times[post] for post in on_topic[topic]) if shown[name] <= RARE else -1
        for topic, name in zip(numbers.tolist(), names, strict=True)
    }
    best = max(strength, key=lambda topic: strength[topic])
    person = workspace.ids.lookup(Namespace.PERSON, [viewer])[0]
    seen = acted["post_id"].to_numpy()[acted["viewer_id"].to_numpy() == person]
    visible = workspace.ids.lookup(Namespace.POST, [row.post_id for row in page])
    new = [post for post in dict.fromkeys(on_topic[best]) if post not in {*seen, *visible}]
    chosen = np.array(sorted(new, key=lambda post: -times[post])[:LIKES], dtype=np.int64)
    return names[list(strength).index(best)], workspace.ids.external(Namespace.POST, chosen)
