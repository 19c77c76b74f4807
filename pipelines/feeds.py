"""Feeds for the terminal: ids turned into posts, reasons into words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from contracts.clock import HOUR_US, to_us
from contracts.errors import NotFound
from contracts.feed import FeedItem, FeedPage
from contracts.ids import UNKNOWN_ID, Namespace
from features.workspace import Workspace
from feed_api.platform.words import REF_NAMESPACE, reason_text
from pipelines.console import Reporter

_LEAST_TEXT: Final = 30


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

    @property
    def age(self) -> str:
        """Write the age in hours, days or years."""
        days = self.age_hours / 24.0
        if days < 3:
            return f"{self.age_hours:.0f} h"
        return f"{days:.0f} d" if days < 1000 else f"{days / 365.25:.0f} y"


def viewer_id(workspace: Workspace, external: str) -> int:
    """Look a viewer up; NotFound where nobody is known by that id."""
    found = int(workspace.ids.lookup(Namespace.PERSON, [external])[0])
    if found == UNKNOWN_ID:
        names = workspace.ids.all(Namespace.PERSON)[1][:3]
        msg = f"nobody is known as {external!r}"
        raise NotFound(msg, hint=f"ids are those of your files, such as {', '.join(names)}")
    return found


def page_rows(workspace: Workspace, page: FeedPage, now_us: int) -> list[FeedRow]:
    """Turn a page of the feed service into rows, in its order."""
    ids = _int64([item.post_id for item in page.items])
    posts = _posts(workspace, ids, now_us)
    return [
        posts[item.post_id].placed(item.position, _reason(workspace, item), item.value)
        for item in page.items
    ]


def answer_rows(workspace: Workspace, answer: Mapping[str, Any], now_us: int) -> list[FeedRow]:
    """Turn an answer of the platform API into rows, in its order."""
    items = answer["items"]
    ids = workspace.ids.lookup(Namespace.POST, [item["post_id"] for item in items])
    posts = _posts(workspace, ids, now_us)
    return [
        posts[post_id].placed(item["position"], item["reason"]["text"], item["value"])
        for post_id, item in zip(ids.tolist(), items, strict=True)
    ]


def print_feed(report: Reporter, title: str, rows: Sequence[FeedRow]) -> None:
    """Print a feed: a post's text on one line, and below it why it is there."""
    report.say(title, style="bold")
    names = ("#", "post", "by", "topics", "age", "what, and why")
    cells = [
        (str(r.position + 1), r.post_id, r.author_id or "-", ", ".join(r.topics[:2]), r.age)
        for r in rows
    ]
    taken = sum(max(map(len, column)) + 2 for column in zip(names[:-1], *cells, strict=True))
    width = max(_LEAST_TEXT, report.console.width - taken - 2)
    shown = Table(box=SIMPLE_HEAD, padding=(0, 1), collapse_padding=True, pad_edge=False)
    for name in names:
        shown.add_column(name, no_wrap=True)
    for row, before in zip(rows, cells, strict=True):
        text = Text(f"{_cut(row.text, width)}\n")
        shown.add_row(*before, text.append(_cut(row.reason, width), style="dim italic"))
    report.console.print(shown)


@dataclass(frozen=True, slots=True)
class _Post:
    post_id: str
    author_id: str | None
    topics: tuple[str, ...]
    age_hours: float
    text: str

    def placed(self, position: int, reason: str, value: float) -> FeedRow:
        """Give the post a place in a feed."""
        return FeedRow(
            position, self.post_id, self.author_id, self.topics, self.age_hours, self.text,
            reason, value,
        )  # fmt: skip


def _posts(workspace: Workspace, ids: NDArray[np.int64], now_us: int) -> dict[int, _Post]:
    """Read posts with one query, by their id."""
    topic_ids, names = workspace.catalog.topics()
    topics = dict(zip(topic_ids.tolist(), names, strict=True))
    rows = workspace.catalog.posts_by_id(ids).to_pylist()
    external = workspace.ids.external(Namespace.POST, _int64([r["post_id"] for r in rows]))
    return {
        row["post_id"]: _Post(
            post_id,
            _author(workspace, row["author_id"]),
            tuple(topics[topic] for topic in row["topics"]),
            (now_us - to_us(row["created"])) / HOUR_US,
            row["text"],
        )
        for row, post_id in zip(rows, external, strict=True)
    }


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _reason(workspace: Workspace, item: FeedItem) -> str:
    namespace = REF_NAMESPACE.get(item.reason)
    if item.reason_ref is None or namespace is None:
        return reason_text(item.reason, None)
    return reason_text(item.reason, _name(workspace, namespace, item.reason_ref))


def _author(workspace: Workspace, author_id: int | None) -> str | None:
    return None if author_id is None else _name(workspace, Namespace.PERSON, author_id)


def _name(workspace: Workspace, namespace: Namespace, row_id: int) -> str:
    return workspace.ids.external(namespace, _int64([row_id]))[0]


def _int64(values: Sequence[int]) -> NDArray[np.int64]:
    return np.array(values, dtype=np.int64)
