"""A small world behind a real app: people, posts, feeds that show the newest posts first."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from numpy.typing import NDArray

from contracts.clock import SECOND_US, now_us
from contracts.degrade import DegradeLevel, DegradeReason
from contracts.errors import CursorExpired, NotFound
from contracts.events import EventType
from contracts.feed import (
    Explanation,
    FeedItem,
    FeedPage,
    Feeds,
    Preview,
    RankedCandidates,
    ReasonCode,
)
from contracts.ids import Namespace
from contracts.query import FeedQuery
from contracts.settings import Settings
from features.workspace import Workspace
from feed_api.app import create_app
from feed_api.database import home_url, open_database
from feed_api.keys import Scope, create_key, revoke_key
from feed_api.logs import json_logger
from serving.watching.feed_sums import FeedSums

T = TypeVar("T")
Ids = NDArray[np.int64]


class StaticFeeds:
    """Feeds straight from the catalog: the newest post first, whoever looks."""

    def __init__(self, workspace: Workspace, keep: int = 1000) -> None:
        self._workspace = workspace
        self._keep = keep
        self._snapshots: OrderedDict[int, tuple[int, Ids]] = OrderedDict()
        self.gate = Event()
        """Feeds wait while it is not set."""
        self.gate.set()
        self.failure: Exception | None = None
        """Raised by the next feeds, where there is one."""
        self.ready = True
        self.stuck = False
        """Whether the log is not applied any more."""

    def open(self, query: FeedQuery) -> FeedPage:
        self.gate.wait()
        if self.failure is not None:
            raise self.failure
        self._snapshots[query.feed_id] = (query.viewer_id, self._order())
        while len(self._snapshots) > self._keep:
            self._snapshots.popitem(last=False)
        return self.page(query.feed_id, query.viewer_id, 0, query.limit)

    def page(
        self, feed_id: int, viewer_id: int, offset: int, limit: int, reader_id: int | None = None
    ) -> FeedPage:
        owner, ids = self._snapshots.get(feed_id, (None, np.empty(0, np.int64)))
        if owner != viewer_id:
            raise CursorExpired("this feed is not kept any more", hint="ask for a new feed")
        stop = min(offset + limit, len(ids))
        part = ids[offset:stop].tolist()
        posts = {p["post_id"]: p for p in self._workspace.catalog.posts_by_id(part).to_pylist()}
        items = tuple(
            FeedItem(place, i, *self._reason(viewer_id, posts[i]["author_id"]), 1.0 / (1 + place))
            for place, i in enumerate(part, start=offset)
            if not posts[i]["deleted"]
        )
        known = viewer_id >= 0
        return FeedPage(
            feed_id, viewer_id, items, stop if stop < len(ids) else None,
            DegradeLevel.FULL if known else DegradeLevel.TRENDING,
            () if known else (DegradeReason.UNKNOWN_VIEWER,),
            "policy", "bundle", 0.0, len(part) - len(items),
        )  # fmt: skip

    def rank(self, query: FeedQuery, post_ids: Ids) -> RankedCandidates:
        del query
        order = self._order()
        kept = order[np.isin(order, post_ids)]
        posts = self._workspace.catalog.posts_by_id(post_ids).to_pylist()
        removed = {p["post_id"]: "deleted" for p in posts if p["deleted"]}
        values = 1.0 / (1.0 + np.arange(len(kept)))
        return RankedCandidates(kept, values, removed, DegradeLevel.FULL, (), "policy", "bundle")

    def explain(self, feed_id: int, viewer_id: int | None, post_id: int) -> Explanation:
        owner, ids = self._snapshots.get(feed_id, (None, np.empty(0, np.int64)))
        if owner is None or viewer_id not in (None, owner):
            raise NotFound("there is no record of this feed")
        places = np.flatnonzero(ids == post_id).tolist()
        if not places:
            return Explanation(feed_id, post_id, "not_a_candidate", None)
        place = places[0]
        behind: dict[str, float | str] = {}
        if place:
            behind = {"post_id": str(ids[place - 1]), "value_before_selection": 0.25}
        return Explanation(
            feed_id, post_id, "served", place, ("fresh",), None, 1.0, {"term.like": 1.0},
            {"like": 0.5}, behind,
        )  # fmt: skip

    def preview(self, viewer_id: int, wish: EventType, post_id: int) -> Preview:
        feeds = [feed for feed, (owner, _) in self._snapshots.items() if owner == viewer_id]
        if not feeds:
            raise NotFound("there is no recorded feed of this viewer, or no such post")
        ids = self._snapshots[feeds[-1]][1].tolist()
        others = [other for other in ids if other != post_id]
        first = wish in {EventType.MORE_OF_AUTHOR, EventType.MORE_OF_TOPIC}
        changed = [post_id, *others] if first else [*others, post_id]
        return Preview(feeds[-1], tuple(ids), tuple(changed))

    def wait_applied(self, seq: int, timeout_seconds: float) -> bool:
        del timeout_seconds
        return not self.stuck and self._workspace.log.last_seq >= seq

    def health(self) -> Mapping[str, object]:
        counts = self._workspace.catalog.counts()
        return {
            "ready": self.ready,
            "posts": counts["posts"],
            "people": counts["people"],
            "applied_seq": self._workspace.log.last_seq,
            "source_yield": {"fresh": counts["posts"]},
            "funnel": FeedSums().report().model_dump(),
        }

    def close(self) -> None:
        self.gate.set()
        self._snapshots.clear()

    def _order(self) -> Ids:
        posts = self._workspace.catalog.posts(include_deleted=False)
        order = np.lexsort((posts["post_id"].to_numpy(), posts["created"].to_numpy()))
        ids: Ids = posts["post_id"].to_numpy()[order[::-1]]
        return ids

    def _reason(self, viewer_id: int, author_id: int | None) -> tuple[ReasonCode, int | None]:
        if author_id is not None and self._workspace.catalog.has_follow(viewer_id, author_id):
            return ReasonCode.FOLLOWING, author_id
        return ReasonCode.NEW_POST, None


@dataclass
class Api:
    """A running app and a client for it, on one event loop; every scope has a key."""

    app: FastAPI
    workspace: Workspace
    feeds: Any
    settings: Settings
    log: BytesIO
    keys: dict[str, str]
    runner: asyncio.Runner = field(default_factory=asyncio.Runner)
    lifespan: AbstractAsyncContextManager[Any] | None = None

    def start(self) -> None:
        self.lifespan = self.app.router.lifespan_context(self.app)
        self.runner.run(enter(self.lifespan))

    def serve_with(self, feeds: Feeds) -> None:
        """Go on with other feeds over the same workspace."""
        self.end()
        self.feeds = feeds
        logger = json_logger("info", self.log)
        self.app = create_app(self.settings, self.workspace, feeds, logger=logger)
        self.start()

    def end(self) -> None:
        if self.lifespan is not None:
            self.runner.run(leave(self.lifespan))
        self.feeds.close()

    def stop(self) -> None:
        self.end()
        self.runner.close()

    def run(self, work: Callable[[httpx.AsyncClient], Awaitable[T]], key: str = "admin") -> T:
        """Run a coroutine with a client; the key is a scope's word."""

        async def with_client() -> T:
            headers = {"Authorization": f"Bearer {self.keys[key]}"}
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(
                transport=transport, base_url="http://feeds", headers=headers
            ) as client:
                return await work(client)

        return self.runner.run(with_client())

    def ask(self, method: str, path: str, key: str = "admin", **more: Any) -> httpx.Response:
        """Send one request."""
        return self.run(lambda client: client.request(method, path, **more), key)

    def feed(self, viewer: str = "ann", **query: Any) -> Any:
        answer = self.ask("GET", "/v1/platform/feed", params={"viewer": viewer, **query})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, *events: Mapping[str, Any], **more: Any) -> httpx.Response:
        return self.ask("POST", "/v1/platform/events", json={"events": list(events)}, **more)

    def put_post(self, post_id: str, **more: Any) -> httpx.Response:
        body = {"text": f"the text of {post_id}", "author": "bob", "topics": ["rivers"], **more}
        return self.ask("PUT", f"/v1/platform/posts/{post_id}", json=body)

    def log_text(self) -> str:
        return self.log.getvalue().decode()

    def person(self, external: str) -> int:
        return int(self.workspace.ids.lookup(Namespace.PERSON, [external])[0])


async def enter(context: AbstractAsyncContextManager[Any]) -> None:
    await context.__aenter__()


async def leave(context: AbstractAsyncContextManager[Any]) -> None:
    await context.__aexit__(None, None, None)


class ApiMaker:
    """Makes running apps; each has people ann, bob and cat and posts p-1 to p-`posts`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: list[Api] = []

    def __call__(self, posts: int = 5, keep: int = 1000, **settings: Any) -> Api:
        home = self._folder / f"home-{len(self._made)}"
        workspace = Workspace.open(home)
        feeds = StaticFeeds(workspace, keep)
        chosen = Settings(home=home, **settings)
        log = BytesIO()
        app = create_app(chosen, workspace, feeds, logger=json_logger("info", log))
        api = Api(app, workspace, feeds, chosen, log, make_keys(home))
        api.start()
        self._made.append(api)
        for person in ("ann", "bob", "cat"):
            assert api.ask("PUT", f"/v1/platform/people/{person}", json={}).status_code == 201
        for number in range(1, posts + 1):
            assert api.put_post(f"p-{number}").status_code == 201
        return api

    def close(self) -> None:
        for api in self._made:
            api.stop()
            api.workspace.close()


@pytest.fixture
def make_api(tmp_path: Path) -> Iterator[ApiMaker]:
    maker = ApiMaker(tmp_path)
    yield maker
    maker.close()


@pytest.fixture(scope="module")
def make_api_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiMaker]:
    """Make apps that the tests of a module share."""
    maker = ApiMaker(tmp_path_factory.mktemp("apis"))
    yield maker
    maker.close()


@pytest.fixture
def api(make_api: ApiMaker) -> Api:
    return make_api()


def make_keys(home: Path) -> dict[str, str]:
    """Make a key a scope, and one that is revoked."""
    engine = open_database(home_url(home))
    made = {
        scope.value: create_key(engine, scope.value, [scope.value], now_us()).token
        for scope in Scope
    }
    revoked = create_key(engine, "revoked", ["admin"], now_us() - SECOND_US)
    revoke_key(engine, revoked.key_id, now_us())
    engine.dispose()
    return {**made, "revoked": revoked.token}
