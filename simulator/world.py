"""A small seeded world with known truth: people, posts, follows, and a log of what they did.

The same seed gives the same world, bit for bit. Nothing reads the wall clock: the world ends
where the caller says. `World.truth` answers what no real log can: the probability behind an event.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from contracts.clock import DAY_US
from contracts.errors import InvalidInput
from simulator.behaviour import Behaviour, Shown, Truth
from simulator.events import event_table
from simulator.files import write_world
from simulator.history import History, simulate_history
from simulator.population import IntArray, People, Posts, make_follows, make_people, make_posts

DEFAULT_END_US: Final = 1_793_491_200_000_000
"""2026-11-01 00:00 UTC."""
SHOWINGS_PER_PERSON: Final = 85.0


@dataclass(frozen=True, slots=True)
class World:
    """One generated world; person and post rows are the numbers in `p17` and `post42`."""

    behaviour: Behaviour
    history: History
    events: pa.Table

    @classmethod
    def generate(
        cls,
        seed: int,
        people: int = 3000,
        posts: int = 12_000,
        days: int = 28,
        end_us: int = DEFAULT_END_US,
    ) -> "World":
        """Generate a world that ends at `end_us`; InvalidInput where a number is too small."""
        _require("people", people, 20)
        _require("posts", posts, 50)
        _require("days", days, 2)
        start_us = end_us - days * DAY_US
        crowd = make_people(seed, people, start_us)
        written = make_posts(seed, crowd, posts, start_us, end_us)
        follows = make_follows(seed, crowd, start_us)
        behaviour = Behaviour(seed, crowd, written, start_us, end_us)
        history = simulate_history(behaviour, follows, SHOWINGS_PER_PERSON)
        return cls(behaviour, history, event_table(history, written, seed, end_us))

    @property
    def people(self) -> People:
        """The people, one row each."""
        return self.behaviour.people

    @property
    def posts(self) -> Posts:
        """The posts, one row each."""
        return self.behaviour.posts

    def truth(
        self,
        person: IntArray,
        post: IntArray,
        now_us: int | None = None,
        position: IntArray | None = None,
    ) -> Truth:
        """Give the true probabilities of showing posts to people, rows [n] each.

        `now_us` is the world's end by default, `position` the top of a page. A follow counts from
        the day after it was made.
        """
        n = len(self.people)
        at = self.behaviour.end_us if now_us is None else now_us
        today = at - (at - self.behaviour.start_us) % DAY_US
        graph = self.history.follows
        known = graph.since_us < today
        pairs = (graph.follower * n + graph.followee)[known]
        none = np.zeros(len(person), np.int64)
        shown = Shown(
            person=person,
            post=post,
            at_us=np.full(len(person), at),
            position=none if position is None else position,
            fatigue=none,
            followed=np.isin(person * n + self.posts.author[post], pairs),
        )
        return self.behaviour.truth(shown)

    def write(self, folder: Path) -> list[Path]:
        """Write people.csv, posts.jsonl, follows.csv and events.parquet; returns their paths."""
        return write_world(folder, self.people, self.posts, self.history.follows, self.events)


def _require(name: str, value: int, least: int) -> None:
    if value < least:
        msg = f"a world needs at least {least} {name}, got {value}"
        raise InvalidInput(msg)
