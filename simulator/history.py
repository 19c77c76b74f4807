"""How the log came about: day by day, sessions of showings and what people did with them."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from contracts.clock import DAY_US, SECOND_US
from contracts.events import EventType
from contracts.seeds import stage_generator
from simulator.behaviour import DRAWN, Behaviour, Outcome, Shown, Truth
from simulator.exposure import Graph, Library, choose_posts
from simulator.population import Follows, IntArray, People, Posts, moments

SESSION_LENGTH: Final = 14
_POPULARITY_KEEP: Final = 0.6  # of a post's popularity, from one day to the next
_SLOT_US: Final = 6 * SECOND_US  # between two posts of one session


@dataclass(frozen=True, slots=True)
class History:
    """Everything that was shown and done, in order of days; `shown`, `truth`, `outcome` align."""

    shown: Shown
    truth: Truth
    outcome: Outcome
    follows: Follows

    def __len__(self) -> int:
        return len(self.shown)


@dataclass(slots=True)
class _Running:
    """What one day hands to the next."""

    follow_keys: IntArray  # sorted
    follow_since: IntArray
    seen_keys: IntArray  # sorted
    popularity: NDArray[np.float64]  # [communities, posts]


def simulate_history(behaviour: Behaviour, follows: Follows, per_person: float) -> History:
    """Show posts from the second day to the end; `per_person` showings on average."""
    people, posts = behaviour.people, behaviour.posts
    n = len(people)
    running = _Running(
        follow_keys=follows.follower * n + follows.followee,
        follow_since=follows.since_us,
        seen_keys=np.empty(0, np.int64),
        popularity=np.zeros((int(people.community.max()) + 1, len(posts))),
    )
    library = Library.of(posts, n)
    days: list[tuple[Shown, Truth, Outcome]] = []
    n_days = round((behaviour.end_us - behaviour.start_us) / DAY_US)
    for day in range(min(1, n_days - 1), n_days):
        rng = stage_generator(behaviour.seed, f"day {day}")
        start = behaviour.start_us + day * DAY_US
        rate = per_person / max(n_days - 1, 1) * people.activity
        shown = _show(behaviour, library, running, start, rate, rng)
        truth = behaviour.truth(shown)
        outcome = behaviour.draw(truth, rng)
        days.append((shown, truth, outcome))
        _carry_over(running, shown, outcome.acted, people, posts)
    keys = running.follow_keys
    graph = Follows(keys // n, keys % n, running.follow_since)
    shown_parts, truths, outcomes = zip(*days, strict=True)
    return History(
        Shown.merged(shown_parts), Truth.merged(truths), Outcome.merged(outcomes), follows=graph
    )


def _show(
    behaviour: Behaviour,
    library: Library,
    running: _Running,
    day_us: int,
    rate: NDArray[np.float64],
    rng: np.random.Generator,
) -> Shown:
    n, posts = len(behaviour.people), behaviour.posts
    sessions = rng.poisson(rate / SESSION_LENGTH)
    owner = np.repeat(np.arange(n), sessions)
    begin = moments(rng, len(owner), day_us, day_us + DAY_US - 600 * SECOND_US)
    length = rng.poisson(SESSION_LENGTH * 1.25, len(owner))  # a fifth falls out below
    session = np.repeat(np.arange(len(owner)), length)
    person, at = owner[session], begin[session]
    graph = Graph.of(running.follow_keys, n)
    community = behaviour.people.community[person]
    post = choose_posts(person, community, at, library, graph, running.popularity, rng)
    key = person * len(posts) + post
    first = np.zeros(len(key), np.bool_)
    first[np.unique(key, return_index=True)[1]] = True
    keep = first & (post >= 0) & (posts.author[post] != person)
    keep &= ~_contains(running.seen_keys, key)
    session, person, post, at = session[keep], person[keep], post[keep], at[keep]
    position = _count_before(session)
    jitter = rng.integers(0, 2 * SECOND_US, len(post))
    return Shown(
        person=person,
        post=post,
        at_us=at + position * _SLOT_US + jitter,
        position=position,
        fatigue=_count_before(session * 1000 + posts.primary[post]),
        followed=_contains(running.follow_keys, person * n + posts.author[post]),
    )


def _carry_over(
    running: _Running, shown: Shown, acted: NDArray[np.bool_], people: People, posts: Posts
) -> None:
    key = shown.person * len(posts) + shown.post
    running.seen_keys = np.union1d(running.seen_keys, key)
    weights = acted[:, : DRAWN.index(EventType.SAVE) + 1].sum(axis=1)
    running.popularity *= _POPULARITY_KEEP
    np.add.at(running.popularity, (people.community[shown.person], shown.post), weights)
    chose = acted[:, DRAWN.index(EventType.FOLLOW_AUTHOR)]
    pair = shown.person[chose] * len(people) + posts.author[shown.post[chose]]
    pair, at = np.unique(pair, return_index=True)
    keys = np.concatenate([running.follow_keys, pair])
    order = np.argsort(keys, kind="stable")
    since = np.concatenate([running.follow_since, shown.at_us[chose][at]])
    running.follow_keys, running.follow_since = keys[order], since[order]


def _contains(sorted_keys: IntArray, keys: IntArray) -> NDArray[np.bool_]:
    if not len(sorted_keys):
        return np.zeros(len(keys), np.bool_)
    place = np.minimum(np.searchsorted(sorted_keys, keys), len(sorted_keys) - 1)
    found: NDArray[np.bool_] = sorted_keys[place] == keys
    return found


def _count_before(groups: IntArray) -> IntArray:
    """Count earlier rows of the same group; shape [n]."""
    order = np.argsort(groups, kind="stable")
    ranked = groups[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]]) if len(ranked) else order
    run = np.diff(np.r_[starts, len(ranked)])
    counts = np.empty(len(groups), np.int64)
    counts[order] = np.arange(len(ranked)) - np.repeat(starts, run)
    return counts
