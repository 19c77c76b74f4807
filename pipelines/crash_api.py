"""Kills a server while events are posted to it, and counts what was lost or doubled.

Half of the batches name their events, the other half rests on an Idempotency-Key alone; a batch
without an answer is sent again to the next server, as any client should.
"""

import random
from collections import Counter
from pathlib import Path
from threading import Timer
from time import monotonic, sleep
from typing import Any, Final, NamedTuple

import httpx
import numpy as np
import pyarrow.compute as pc

from contracts.clock import now_us
from contracts.ids import Namespace
from features.workspace import Workspace
from pipelines.server_process import RunningServer, free_port, make_admin_key, serving

EVENTS_PER_SECOND: Final = 200
_BATCH: Final = 4
_POSTS: Final = 20
_LIFE_SECONDS: Final = (0.2, 2.0)
_PORT: Final = 18_780


class CrashCounts(NamedTuple):
    """What a crash run came to; `lost` and `doubled` have to be 0."""

    kills: int
    posted: int
    """Events sent, each counted once however often it was sent."""
    acknowledged: int
    found: int
    """Acknowledged events that the log holds."""
    lost: int
    doubled: int
    seq_gaps: int


class Poster:
    """Posts numbered batches, one after the other, until the server goes away."""

    def __init__(self, token: str) -> None:
        self._headers = {"Authorization": f"Bearer {token}"}
        self.posted = 0
        self.acknowledged: list[int] = []
        self._unanswered: list[int] = []

    def post_until(self, server: RunningServer, stop_after: float) -> None:
        """Post at the set rate until a time or the server's end; then its last batch is kept."""
        with httpx.Client(base_url=server.url, headers=self._headers, timeout=10.0) as client:
            due = monotonic()
            while monotonic() < stop_after:
                numbers = self._unanswered or self._next_batch()
                self._unanswered = numbers
                try:
                    answer = client.post("/v1/platform/events", **_request(numbers))
                except httpx.TransportError:
                    return
                if answer.status_code == httpx.codes.ACCEPTED and not answer.json()["rejected"]:
                    self.acknowledged += numbers
                    self._unanswered = []
                due = max(due + _BATCH / EVENTS_PER_SECOND, monotonic() - 1.0)
                sleep(max(0.0, due - monotonic()))

    def _next_batch(self) -> list[int]:
        numbers = list(range(self.posted, self.posted + _BATCH))
        self.posted += _BATCH
        return numbers


def crash_api_posting(home: Path, kills: int, *, seed: int = 0) -> CrashCounts:
    """Post 200 events a second to a server on a home folder, kill -9 it at random moments.

    After the last kill one more server takes what had no answer; then the log is counted.
    """
    token, start_seq = prepare_home(home)
    poster = Poster(token)
    chance = random.Random(seed)
    port = free_port(_PORT)
    for life in range(kills + 1):
        with serving(home, token, port, {}, home / "crash-server.log") as server:
            last = life == kills
            seconds = chance.uniform(*_LIFE_SECONDS)
            killer = Timer(seconds, server.process.kill)
            if not last:
                killer.start()
            poster.post_until(server, monotonic() + (1.0 if last else 60.0))
            killer.cancel()
    return count_events(home, poster, kills, start_seq)


def prepare_home(home: Path) -> tuple[str, int]:
    """Make a key and some posts; give the key and the log's end."""
    home.mkdir(parents=True, exist_ok=True)
    token = make_admin_key(home, "crash test")
    with Workspace.open(home) as workspace:
        ids = workspace.ids.intern(Namespace.POST, [f"crash-{k}" for k in range(_POSTS)])
        workspace.catalog.ensure_posts(ids, np.full(len(ids), now_us()))
        return token, workspace.log.last_seq


def _request(numbers: list[int]) -> dict[str, Any]:
    """Write one batch; an event's number is its value, by which it is found again."""
    named = numbers[0] // _BATCH % 2 == 0
    events = [
        {
            "viewer": f"crash-{number % 50}",
            "type": "impression",
            "post": f"crash-{number % _POSTS}",
            "value": number,
            **({"event_id": f"crash-{number}"} if named else {}),
        }
        for number in numbers
    ]
    headers = {} if named else {"Idempotency-Key": f"crash-{numbers[0]}"}
    return {"json": {"events": events}, "headers": headers}


def count_events(home: Path, poster: Poster, kills: int, start_seq: int) -> CrashCounts:
    """Hold what was acknowledged against what the log holds after a place."""
    with Workspace.open(home, read_only=True) as workspace:
        rows = workspace.log.scan(columns=("seq", "value"))
    rows = rows.filter(pc.greater(rows["seq"], start_seq)).sort_by("seq")
    times = Counter(int(value) for value in rows["value"].to_pylist())
    found = sum(1 for number in poster.acknowledged if times[number])
    return CrashCounts(
        kills=kills,
        posted=poster.posted,
        acknowledged=len(poster.acknowledged),
        found=found,
        lost=len(poster.acknowledged) - found,
        doubled=sum(count - 1 for count in times.values()),
        seq_gaps=int(np.count_nonzero(np.diff(rows["seq"].to_numpy()) != 1)),
    )
