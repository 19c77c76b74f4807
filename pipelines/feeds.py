"""Feeds for the terminal: ids turned into posts, reasons into words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from contracts.clock import HOUR_US, to_us
from contracts.errors import NotFound
from contracts.feed import FeedItem, FeedPage
from contracts.ids import UNKNOWN_ID, Namespace
from features.workspace import Workspace
from feed_api.platform.queries import names_of
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
    placed = [(i.post_id, i.position, _reason(workspace, i), i.value) for i in page.items]
    return _rows(workspace, placed, now_us)


def answer_rows(workspace: Workspace, answer: Mapping[str, Any], now_us: int) -> list[FeedRow]:
    """Turn an answer of the platform API into rows, in its order."""
    items = answer["items"]
    ids = workspace.ids.lookup(Namespace.POST, [item["post_id"] for item in items]).tolist()
    told = ((i["position"], i["reason"]["text"], i["value"]) for i in items)
    placed = [(post_id, *rest) for post_id, rest in zip(ids, told, strict=True)]
    return _rows(workspace, placed, now_us)


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


def _rows(
    workspace: Workspace, placed: Sequence[tuple[int, int, str, float]], now_us: int
) -> list[FeedRow]:
    """Read the posts of (post, position, reason, value) with one query."""
    topic_ids, names = workspace.catalog.topics()
    topics = dict(zip(topic_ids.tolist(), names, strict=True))
    ids = [post_id for post_id, *_ in placed]
    external = names_of(workspace, Namespace.POST, ids)
    posts = {row["post_id"]: row for row in workspace.catalog.posts_by_id(ids).to_pylist()}
    authors = {post["author_id"] for post in posts.values()} - {None}
    people = names_of(workspace, Namespace.PERSON, authors)
    rows = []
    for post_id, position, reason, value in placed:
        post = posts[post_id]
        by, age = people.get(post["author_id"]), (now_us - to_us(post["created"])) / HOUR_US
        about = tuple(topics[topic] for topic in post["topics"])
        shown = (external[post_id], by, about, age, post["text"])
        rows.append(FeedRow(position, *shown, reason, value))
    return rows


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _reason(workspace: Workspace, item: FeedItem) -> str:
    namespace = REF_NAMESPACE.get(item.reason)
    if item.reason_ref is None or namespace is None:
        return reason_text(item.reason, None)
    names = names_of(workspace, namespace, [item.reason_ref])
    return reason_text(item.reason, names[item.reason_ref])
