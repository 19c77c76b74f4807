"""The world: the same for a seed, calibrated to its own truth, heavy-tailed, learnable."""

import numpy as np
import pytest
from scipy.stats import chi2

from contracts.clock import DAY_US
from contracts.errors import InvalidInput
from contracts.events import EventType
from simulator.behaviour import DRAWN
from simulator.world import DEFAULT_END_US, World


@pytest.fixture(scope="module")
def world() -> World:
    return World.generate(7, people=800, posts=3000, days=14)


def test_same_seed_gives_the_same_world(world: World) -> None:
    again = World.generate(7, people=800, posts=3000, days=14)
    other = World.generate(8, people=800, posts=3000, days=14)
    assert again.events.equals(world.events)
    assert again.posts.text == world.posts.text
    assert not other.events.equals(world.events)


def test_end_moves_the_whole_world(world: World) -> None:
    later = World.generate(7, people=800, posts=3000, days=14, end_us=DEFAULT_END_US + DAY_US)
    assert (later.posts.created_us - world.posts.created_us == DAY_US).all()
    assert later.posts.text == world.posts.text


@pytest.mark.parametrize("action", [None, *DRAWN])
def test_drawn_rates_follow_the_truth(world: World, action: EventType | None) -> None:
    """Chi-square over deciles of true probability; the seed is fixed, so it cannot flake."""
    history = world.history
    if action is None:
        truth, drawn = history.truth.view, history.outcome.viewed
    else:
        truth = history.truth.of(action)
        drawn = history.outcome.acted[:, DRAWN.index(action)]
    groups = np.array_split(np.argsort(truth), 10)
    expected = np.array([truth[g].sum() for g in groups])
    variance = np.array([(truth[g] * (1 - truth[g])).sum() for g in groups])
    observed = np.array([drawn[g].sum() for g in groups])
    used = expected > 5
    statistic = ((observed - expected)[used] ** 2 / variance[used]).sum()
    assert statistic < chi2.ppf(0.999, used.sum())


def test_truth_of_the_log_is_the_truth_asked_for(world: World) -> None:
    shown, log = world.history.shown, world.history.truth
    rows = np.flatnonzero((shown.fatigue == 0) & (shown.at_us > DEFAULT_END_US - DAY_US))[:200]
    assert len(rows) == 200
    for row in rows[:20]:
        asked = world.truth(
            shown.person[[row]], shown.post[[row]], int(shown.at_us[row]), shown.position[[row]]
        )
        assert asked.view == pytest.approx(log.view[[row]], abs=1e-12)
        assert asked.given_view == pytest.approx(log.given_view[[row]], abs=1e-12)


def test_nobody_sees_a_post_twice_or_their_own_or_before_it_exists(world: World) -> None:
    shown, posts = world.history.shown, world.posts
    pairs = shown.person * len(posts) + shown.post
    assert len(np.unique(pairs)) == len(pairs)
    assert (posts.author[shown.post] != shown.person).all()
    assert (posts.created_us[shown.post] <= shown.at_us).all()


def test_activity_and_popularity_have_heavy_tails(world: World) -> None:
    for counts in (
        np.bincount(world.posts.author, minlength=len(world.people)),
        np.bincount(world.history.shown.post, minlength=len(world.posts)),
        np.bincount(world.history.follows.followee, minlength=len(world.people)),
    ):
        top = np.sort(counts)[::-1][: len(counts) // 20].sum()
        assert top / counts.sum() > 0.15
        assert counts.max() > 10 * np.median(counts[counts > 0])


def test_tastes_can_be_learned(world: World) -> None:
    """Rank the last days' showings a person: oracle over popularity over chance, by likes in 5."""
    shown, liked = world.history.shown, world.history.outcome.acted[:, DRAWN.index(EventType.LIKE)]
    late = shown.at_us > DEFAULT_END_US - 4 * DAY_US
    past = np.bincount(shown.post[~late], weights=liked[~late], minlength=len(world.posts))
    oracle = world.history.truth.of(EventType.LIKE)[late]
    person, liked = shown.person[late], liked[late]
    rng = np.random.default_rng(0)
    found = {
        name: _likes_in_top(score, person, liked)
        for name, score in (
            ("oracle", oracle),
            ("popular", past[shown.post[late]] + 1e-9 * rng.random(len(person))),
            ("random", rng.random(len(person))),
        )
    }
    assert found["oracle"] > 1.5 * found["popular"]
    assert found["popular"] > 1.05 * found["random"]


def _likes_in_top(score: np.ndarray, person: np.ndarray, liked: np.ndarray, k: int = 5) -> int:
    order = np.lexsort((-score, person))
    ranked = person[order]
    place = np.arange(len(ranked)) - np.searchsorted(ranked, ranked)
    return int(liked[order][place < k].sum())


def test_a_world_too_small_is_refused() -> None:
    with pytest.raises(InvalidInput, match="at least 20 people, got 3"):
        World.generate(1, people=3)
