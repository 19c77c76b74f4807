"""The worked example: one viewer's feed before and after three likes on one topic."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final

import numpy as np
import pyarrow.compute as pc

from contracts.events import EventType
from contracts.ids import Namespace
from features.workspace import Workspace
from pipelines.console import Reporter
from pipelines.feeds import FeedRow, answer_rows
from pipelines.platform_client import PlatformClient

PAGE: Final = 20
LIKES: Final = 3
_FEW, _MANY = 4, 40
_ENOUGH: Final = 10


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


def typical_viewers(workspace: Workspace, count: int) -> list[str]:
    """Choose people with some likes, neither the most active nor idle; always the same ones."""
    likes = workspace.log.scan(types=[EventType.LIKE, EventType.CLICK], columns=["viewer_id"])
    people, number = np.unique(likes["viewer_id"].to_numpy(), return_counts=True)
    typical = people[(number >= _FEW) & (number <= _MANY)]
    if not len(typical):
        typical = people
    places = np.linspace(0, len(typical) - 1, min(count, len(typical))).astype(np.int64)
    return workspace.ids.external(Namespace.PERSON, typical[places])


def three_likes(
    workspace: Workspace, client: PlatformClient, viewer: str, now_us: int
) -> WorkedExample:
    """Read a feed, like three posts on a topic that is rare in it, and read the feed again."""
    before = answer_rows(workspace, client.feed(viewer, PAGE), now_us)
    topic, posts = _rare_topic(workspace, before)
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


def _rare_topic(workspace: Workspace, page: Sequence[FeedRow]) -> tuple[str, list[str]]:
    """Choose the topic with the most posts among those that are rarest on a page, and three posts.

    The posts are the newest on it that the page does not show.
    """
    posts = workspace.catalog.posts(include_deleted=False).sort_by([("created", "descending")])
    topic_ids, names = workspace.catalog.topics()
    shown = Counter(topic for row in page for topic in row.topics)
    firsts = np.array([t[0] if t else -1 for t in posts["topics"].to_pylist()])
    counts = {
        name: int((firsts == topic).sum())
        for topic, name in zip(topic_ids.tolist(), names, strict=True)
    }
    common = [name for name in names if counts[name] >= _ENOUGH] or names
    topic = min(common, key=lambda name: (shown[name], -counts[name]))
    number = topic_ids[names.index(topic)]
    candidates = pc.filter(posts["post_id"], firsts == number).to_numpy()
    external = workspace.ids.external(Namespace.POST, candidates[: LIKES + PAGE])
    visible = {row.post_id for row in page}
    return topic, [post for post in external if post not in visible][:LIKES]
