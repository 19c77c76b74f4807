"""Who lives in the world: people, their tastes and follows, and the posts that they write."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from contracts.clock import DAY_US
from contracts.seeds import stage_generator
from features.columns import Columns
from simulator.text import LANGUAGES, write_texts
from simulator.vocabulary import topic_names

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

PEOPLE_PER_COMMUNITY: Final = 250
_LANGUAGE_SHARES: Final = (0.94, 0.02, 0.02, 0.02)


@dataclass(frozen=True, slots=True)
class People(Columns):
    """One row a person; `taste_*` are topic mixtures [n, topics] at both ends of the window."""

    community: IntArray
    taste_start: FloatArray
    taste_end: FloatArray
    quality: FloatArray  # of what they write, standard normal
    productivity: FloatArray  # share of all posts, heavy-tailed, sums to 1
    activity: FloatArray  # impressions relative to the mean person, heavy-tailed, mean 1
    language: IntArray  # index into LANGUAGES
    created_us: IntArray


@dataclass(frozen=True, slots=True)
class Posts(Columns):
    """One row a post, in order of creation."""

    author: IntArray
    primary: IntArray  # topic
    secondary: IntArray  # topic, -1 where there is none
    quality: FloatArray
    kind: NDArray[np.int8]  # 0 plain, 1 asks a question, 2 has a link
    language: IntArray
    created_us: IntArray
    text: list[str]


@dataclass(frozen=True, slots=True)
class Follows:
    """Who follows whom since when, sorted by (follower, followee), no pair twice."""

    follower: IntArray
    followee: IntArray
    since_us: IntArray


def make_people(seed: int, n: int, start_us: int) -> People:
    """Make people in communities that share tastes; about 250 people a community."""
    rng = stage_generator(seed, "people")
    n_communities = max(4, n // PEOPLE_PER_COMMUNITY)
    community = rng.integers(0, n_communities, n)
    shared = rng.dirichlet(np.full(len(topic_names()), 0.12), n_communities)
    own = rng.dirichlet(np.full(len(topic_names()), 0.08), n)
    share = rng.beta(4.0, 3.0, (n, 1))
    taste = share * shared[community] + (1.0 - share) * own
    turn = rng.beta(1.5, 5.0, (n, 1))
    productivity = rng.pareto(1.3, n) + 0.02
    activity = rng.lognormal(0.0, 0.7, n)
    return People(
        community=community,
        taste_start=taste,
        taste_end=(1.0 - turn) * taste + turn * rng.dirichlet(np.full(len(topic_names()), 0.08), n),
        quality=rng.standard_normal(n),
        productivity=productivity / productivity.sum(),
        activity=activity / activity.mean(),
        language=rng.choice(len(LANGUAGES), n, p=_LANGUAGE_SHARES).astype(np.int64),
        created_us=start_us - (rng.exponential(200.0, n) * DAY_US).astype(np.int64) - DAY_US,
    )


def make_posts(seed: int, people: People, n: int, start_us: int, end_us: int) -> Posts:
    """Make posts: authors by productivity, topics by their tastes, hours by a daily rhythm."""
    rng = stage_generator(seed, "posts")
    author = rng.choice(len(people), n, p=people.productivity)
    focus = people.taste_start**1.5  # people write about less than they read
    primary = _draw_rows(focus[author], rng)
    secondary = np.where(rng.random(n) < 0.3, _draw_rows(focus[author], rng), -1)
    language = people.language[author]
    kind = rng.choice(3, n, p=(0.68, 0.18, 0.14)).astype(np.int8)
    secondary = np.where(secondary == primary, -1, secondary)
    words = write_texts(primary, secondary, kind, [LANGUAGES[k] for k in language], rng)
    return Posts(
        author=author,
        primary=primary,
        secondary=secondary,
        quality=0.7 * people.quality[author] + 0.7 * rng.standard_normal(n),
        kind=kind,
        language=language,
        created_us=np.sort(moments(rng, n, start_us, end_us)),
        text=words,
    )


def make_follows(seed: int, people: People, start_us: int) -> Follows:
    """Make a follow graph: mostly within communities, towards authors who write much and well.

    Within a community the k followees are a Gumbel top-k sample (Vieira 2014), so that all of a
    community is drawn at once; a fifth goes anywhere by the same weights.
    """
    rng = stage_generator(seed, "follows")
    n = len(people)
    pull = np.log(people.productivity * n + 0.05) + 0.6 * people.quality
    degree = np.clip(rng.lognormal(2.7, 0.7, n), 2, 120).astype(np.int64)
    pairs = [_follow_anywhere(rng, degree, pull)]
    for community in range(int(people.community.max()) + 1):
        members = np.flatnonzero(people.community == community)
        if len(members) < 3:
            continue
        alike = people.taste_start[members] @ people.taste_start[members].T
        keys = pull[members][None, :] + 4.0 * alike + rng.gumbel(size=alike.shape)
        np.fill_diagonal(keys, -np.inf)
        order = np.argsort(-keys, axis=1)
        chosen = np.arange(len(members))[None, :] < np.minimum(
            degree[members], len(members) - 1
        ).reshape(-1, 1)
        followers = np.repeat(members, chosen.sum(axis=1))
        pairs.append(followers * n + members[order[chosen]])
    unique = np.unique(np.concatenate(pairs))
    since = start_us - (rng.exponential(90.0, len(unique)) * DAY_US).astype(np.int64) - 1
    return Follows(unique // n, unique % n, since)


def moments(rng: np.random.Generator, n: int, start_us: int, end_us: int) -> IntArray:
    """Draw n moments in [start, end) with a daily rhythm: quiet nights, busy evenings (UTC)."""
    wanted = 3 * n + 64
    drawn = rng.integers(start_us, end_us, wanted)
    hour = (drawn % DAY_US) / DAY_US * 24.0
    keep = rng.random(wanted) < 0.55 + 0.45 * np.cos((hour - 19.0) / 24.0 * 2.0 * np.pi)
    kept: IntArray = drawn[keep][:n]
    return kept if len(kept) == n else drawn[:n]


def _follow_anywhere(rng: np.random.Generator, degree: IntArray, pull: FloatArray) -> IntArray:
    n = len(degree)
    weights = np.exp(pull)
    followers = np.repeat(np.arange(n), np.maximum(1, degree // 4))
    followees = rng.choice(n, len(followers), p=weights / weights.sum())
    apart = followers != followees
    keys: IntArray = followers[apart] * n + followees[apart]
    return keys


def _draw_rows(weights: FloatArray, rng: np.random.Generator) -> IntArray:
    """Draw one column a row, with probability proportional to the row's weights."""
    edges = np.cumsum(weights, axis=1)
    at = rng.random(len(weights)) * edges[:, -1]
    drawn: IntArray = np.minimum((edges < at[:, None]).sum(axis=1), weights.shape[1] - 1)
    return drawn
