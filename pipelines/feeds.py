"""Feeds for the terminal: ids turned into posts, reasons into words."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from contracts.clock import HOUR_US
from contracts.errors import NotFound
from contracts.feed import FeedItem, FeedPage
from contracts.ids import UNKNOWN_ID, Namespace
from features.workspace import Workspace
from feed_api.platform.words import REF_NAMESPACE, reason_text
from pipelines.console import Cell, Reporter

COLUMNS = ("#", "post", "author", "topics", "age", "text", "why")


@dataclass(frozen=True, slots=True)
class FeedRow:
    """One post of a feed, in words."""

    position: int
    post_id: str
    author_id: str | None
    topics: tuple[str, ...]
    age_hours: float
    text: str
    reason: str
    value: float

    def cells(self, width: int = 48) -> tuple[Cell, ...]:
        """Give the row of a table; the text is cut to a width."""
        text = self.text if len(self.text) <= width else f"{self.text[: width - 1]}…"
        age = f"{self.age_hours:.0f} h" if self.age_hours < 72 else f"{self.age_hours / 24:.0f} d"
        topics = ", ".join(self.topics[:2])
        place = str(self.position + 1)
        return (place, self.post_id, self.author_id, topics, age, text, self.reason)


def viewer_id(workspace: Workspace, external: str) -> int:
    """Look a viewer up; NotFound where nobody is known by that id."""
    found = int(workspace.ids.lookup(Namespace.PERSON, [external])[0])
    if found == UNKNOWN_ID:
        names = workspace.ids.all(Namespace.PERSON)[1][:3]
        msg = f"nobody is known as {external!r}"
        raise NotFound(msg, hint=f"ids are those of your files, such as {', '.join(names)}")
    return found


def feed_rows(workspace: Workspace, page: FeedPage, now_us: int) -> list[FeedRow]:
    """Turn a page into rows with one query for the posts, in the page's order."""
    ids = np.array([item.post_id for item in page.items], dtype=np.int64)
    posts = {row["post_id"]: row for row in workspace.catalog.posts_by_id(ids).to_pylist()}
    topic_names = dict(zip(*(list(part) for part in workspace.catalog.topics()), strict=True))
    external = workspace.ids.external(Namespace.POST, ids)
    rows = []
    for item, post_id in zip(page.items, external, strict=True):
        post = posts[item.post_id]
        author = post["author_id"]
        created_us = int(post["created"].timestamp() * 1e6)
        rows.append(
            FeedRow(
                item.position,
                post_id,
                None if author is None else _name(workspace, Namespace.PERSON, author),
                tuple(topic_names[topic] for topic in post["topics"]),
                (now_us - created_us) / HOUR_US,
                post["text"],
                _reason(workspace, item),
                item.value,
            )
        )
    return rows


def print_feed(report: Reporter, title: str, rows: Sequence[FeedRow]) -> None:
    """Print rows as one table."""
    report.table(title, COLUMNS, [row.cells() for row in rows])


def _reason(workspace: Workspace, item: FeedItem) -> str:
    namespace = REF_NAMESPACE.get(item.reason)
    if item.reason_ref is None or namespace is None:
        return reason_text(item.reason, None)
    return reason_text(item.reason, _name(workspace, namespace, item.reason_ref))


def _name(workspace: Workspace, namespace: Namespace, row_id: int) -> str:
    return workspace.ids.external(namespace, np.array([row_id], dtype=np.int64))[0]
