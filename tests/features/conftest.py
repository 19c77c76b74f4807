"""A small random world for the feature tests: seeded, with late events, undoing and blocks."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from contracts.clock import DAY_US
from contracts.events import EVENT_SCHEMA, LOG_SCHEMA, UTC_US, EventType
from contracts.tables import FOLLOWS_SCHEMA, PEOPLE_SCHEMA, POSTS_SCHEMA
from features.frames import FeatureFrames
from features.graph import CHANGES
from features.workspace import Workspace

T0 = 1_700_000_000_000_000
ON_POSTS = [t for t in EventType if t <= EventType.REPORT]
MIXED = [*ON_POSTS, *ON_POSTS, *CHANGES, EventType.CLICK, EventType.LIKE, EventType.LIKE]
LANGUAGES = ("en", "de-AT", None)

MakeWorld = Callable[..., FeatureFrames]
MakeLog = Callable[..., pa.Table]


def log_table(
    rows: list[tuple[EventType, int, int | None, int | None, int, int]], first_seq: int = 1
) -> pa.Table:
    """Make LOG_SCHEMA rows of (type, viewer, post, target, event time, known time)."""
    kinds, viewers, posts, targets, times, known = zip(*rows, strict=True) if rows else [()] * 6
    n = len(rows)
    seqs = np.arange(first_seq, first_seq + n)
    return pa.table(
        {
            "seq": seqs,
            "event_id": seqs + 10**9,
            "type": pa.array([int(k) for k in kinds], pa.int8()),
            "viewer_id": pa.array(viewers, pa.int64()),
            "post_id": pa.array(posts, pa.int64()),
            "target_id": pa.array(targets, pa.int64()),
            "event_time": pa.array(times, pa.int64()).cast(UTC_US),
            "known_time": pa.array(known, pa.int64()).cast(UTC_US),
            "known_assumed": pa.array([False] * n),
            "value": pa.nulls(n, pa.float32()),
            "feed_id": pa.nulls(n, pa.int64()),
            "position": pa.nulls(n, pa.int16()),
        },
        schema=LOG_SCHEMA,
    )


def make_posts(
    ids: list[int],
    authors: list[int | None],
    topics: list[list[int]],
    created: list[int],
    texts: list[str] | None = None,
) -> pa.Table:
    moments = pa.array(created, pa.int64()).cast(UTC_US)
    return pa.table(
        {
            "post_id": ids,
            "author_id": pa.array(authors, pa.int64()),
            "text": texts or [f"post {i}, why? https://a.b/{i}"[: 4 + i % 30] for i in ids],
            "topics": pa.array(topics, pa.list_(pa.int64())),
            "language": [LANGUAGES[i % 3] for i in ids],
            "created": moments,
            "known": moments,
            "deleted": [False] * len(ids),
        },
        schema=POSTS_SCHEMA,
    )


def make_people(ids: list[int]) -> pa.Table:
    return pa.table(
        {
            "person_id": ids,
            "created": pa.array([T0] * len(ids), pa.int64()).cast(UTC_US),
            "language": [LANGUAGES[i % 3] for i in ids],
            "attributes": ["{}"] * len(ids),
        },
        schema=PEOPLE_SCHEMA,
    )


def random_world(
    seed: int = 0, *, people: int = 12, posts: int = 30, events: int = 400, days: float = 12
) -> FeatureFrames:
    rng = np.random.default_rng(seed)
    person = list(range(1, people + 1))
    post = list(range(people + 1, people + posts + 1))
    span = int(days * DAY_US)
    authors = [int(a) if rng.random() < 0.8 else None for a in rng.choice(person, posts)]
    topics = [rng.choice(8, k, replace=False).tolist() for k in rng.integers(0, 6, posts)]
    created = (T0 + rng.integers(0, span // 2, posts)).tolist()
    times = np.sort(T0 + rng.integers(0, span, events)).tolist()
    rows = []
    for at in times:
        kind = EventType(rng.choice(MIXED))
        on_graph = kind in CHANGES
        late = int(rng.integers(0, 2 * DAY_US)) if rng.random() < 0.15 else 0
        one, two = rng.choice(person, 2)
        made = [p for p, moment in zip(post, created, strict=True) if moment < at]
        if not (made or on_graph):
            continue
        rows.append(
            (
                kind, int(one), None if on_graph else int(rng.choice(made)),
                int(two) if on_graph else None, at, at + late,
            )
        )  # fmt: skip
    pairs = {(int(a), int(b)) for a, b in rng.choice(person, (people * 2, 2)) if a != b}
    follows = pa.table(
        {
            "follower_id": [a for a, _ in sorted(pairs)],
            "followee_id": [b for _, b in sorted(pairs)],
            "since": pa.array(T0 + rng.integers(0, span, len(pairs))).cast(UTC_US),
        },
        schema=FOLLOWS_SCHEMA,
    )
    return FeatureFrames(
        log_table(rows), make_posts(post, authors, topics, created), make_people(person), follows
    )


def fill_workspace(home: Path, frames: FeatureFrames) -> Workspace:
    workspace = Workspace.open(home)
    workspace.catalog.upsert_people(frames.people)
    workspace.catalog.upsert_posts(frames.posts)
    workspace.catalog.set_follows(frames.follows)
    workspace.log.append_bulk(frames.events.select(EVENT_SCHEMA.names))
    return workspace


@pytest.fixture(scope="session")
def t0() -> int:
    return T0


@pytest.fixture(scope="session")
def world() -> MakeWorld:
    return random_world


@pytest.fixture(scope="session")
def log_of() -> MakeLog:
    return log_table


@pytest.fixture(scope="session")
def posts_of() -> Callable[..., pa.Table]:
    return make_posts


@pytest.fixture(scope="session")
def people_of() -> Callable[..., pa.Table]:
    return make_people


@pytest.fixture(scope="session")
def filled() -> Callable[[Path, FeatureFrames], Workspace]:
    return fill_workspace
