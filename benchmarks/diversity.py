"""What diversity is worth, in a world whose truth is known: author decay, topic spread, MMR, DPP.

`make bench NAME=diversity`: feeds of a small trained world are ranked once; each rule then orders
the same recorded pools. `likes` is the true expected number of likes of the first 20 (views fall
with position, fatigue with posts on one topic), as a ratio to no rule at all. DPP is greedy MAP
(Chen, Zhang, Zhou, NeurIPS 2018) over the likeness that MMR uses; it is measured here, not served.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import BENCH, finish
from contracts.clock import now_us
from contracts.events import EventType
from contracts.ids import FeedId, Namespace, UserId
from contracts.policy import ColdStart, Exploration, Mix, Policy
from contracts.query import FeedQuery
from contracts.settings import Settings
from features.materialize import materialize
from features.workspace import Workspace
from pipelines.console import Reporter
from pipelines.ingestion.ingest import ingest, open_dataset
from serving.opening import open_service
from serving.records.writer import RecordStore
from serving.stages.decision import Decision
from serving.stages.slate import Pool, fill_slate
from simulator.behaviour import Shown
from simulator.world import World
from training.config import small_config
from training.ranking import train_ranking
from training.reading import read_training_data
from training.stages import StageClock

COLUMNS: Final = ("rule", "feeds", "likes", "low", "high", "coverage", "same_author", "same_topic")
_PAGE: Final = 20
_FEEDS: Final = 300
_FREE: Final = {
    "mix": Mix(followed_min=0.0, followed_max=1.0, pull=0.0),
    "exploration": Exploration(temperature=0.0),
    "cold_start": ColdStart(slots=()),
}
_OFF: Final = {"author_decay": 1.0, "topic_decay": 1.0, "relevance": 1.0, "max_per_author": 200}
_RULES: Final[dict[str, dict[str, float]]] = {
    "none": {},
    "author decay": {"author_decay": 0.75},
    "topic spread": {"topic_decay": 0.9},
    "MMR 0.9": {"relevance": 0.9},
    "MMR 0.7": {"relevance": 0.7},
    "author decay + topic spread": {"author_decay": 0.75, "topic_decay": 0.9},
    "all three (policy default)": {"author_decay": 0.75, "topic_decay": 0.9, "relevance": 0.9},
}

Rows = NDArray[np.int64]


def main() -> None:
    """Make the world, rank its feeds, order them by every rule, print and write."""
    world, decisions, people, posts = _ranked_world()
    rules: dict[str, Callable[[Pool], Rows]] = {
        name: _by_policy({**_OFF, **changes}) for name, changes in _RULES.items()
    }
    for theta in (0.5, 0.65, 0.9):
        rules[f"DPP {theta:g}"] = _by_dpp(theta)
    chosen = {name: [rule(pool) for pool in decisions] for name, rule in rules.items()}
    likes = {
        name: np.array([
            _true_likes(world, person, posts[pool.post_ids[rows]])
            for person, pool, rows in zip(people, decisions, slates, strict=True)
        ])
        for name, slates in chosen.items()
    }  # fmt: skip
    finish("diversity", [_row(n, likes, decisions, chosen[n]) for n in rules], COLUMNS)


def _row(
    name: str, likes: dict[str, NDArray[np.float64]], pools: list[Pool], slates: list[Rows]
) -> dict[str, Any]:
    draws = np.random.default_rng(0).integers(0, len(pools), (2000, len(pools)))
    ratios = likes[name][draws].sum(axis=1) / likes["none"][draws].sum(axis=1)
    pairs = list(zip(pools, slates, strict=True))
    shown = np.unique(np.concatenate([pool.post_ids[rows] for pool, rows in pairs]))
    there = np.unique(np.concatenate([pool.post_ids for pool in pools]))
    return {
        "rule": name,
        "feeds": len(pools),
        "likes": float(likes[name].sum() / likes["none"].sum()),
        "low": float(np.quantile(ratios, 0.025)),
        "high": float(np.quantile(ratios, 0.975)),
        "coverage": len(shown) / len(there),
        "same_author": float(np.mean([_repeats(pool.authors[rows]) for pool, rows in pairs])),
        "same_topic": float(np.mean([_repeats(pool.topics[rows]) for pool, rows in pairs])),
    }


def _repeats(keys: Rows) -> float:
    """Count posts of a page whose author (or topic) stood there before."""
    return float(len(keys) - len(np.unique(keys)))


def _policy(changes: dict[str, float] | None = None) -> Policy:
    return Policy.model_validate({"name": "rule", "selection": changes or {}, **_FREE})


def _by_policy(changes: dict[str, float]) -> Callable[[Pool], Rows]:
    policy = _policy(changes)
    return lambda pool: fill_slate(pool, policy, 1, 1, 0).rows[:_PAGE]


def _by_dpp(theta: float) -> Callable[[Pool], Rows]:
    """Order by greedy MAP of the kernel q_i S_ij q_j, q = exp(theta value / (2 (1 - theta)))."""

    def choose(pool: Pool) -> Rows:
        differing = np.bitwise_count(pool.codes[:, None] ^ pool.codes[None, :])
        likeness = np.maximum(1.0 - differing / 32.0, 0.0)
        np.fill_diagonal(likeness, 1.0 + 1e-6)
        scaled = pool.values / pool.values.max()
        quality = np.exp(theta * scaled / (2.0 * (1.0 - theta)))
        kernel = quality[:, None] * likeness * quality[None, :]
        gains, parts, rows = np.diag(kernel).copy(), np.zeros((0, len(scaled))), []
        for _ in range(min(_PAGE, len(scaled))):
            best = int(gains.argmax())
            rows.append(best)
            part = (kernel[best] - parts[:, best] @ parts) / np.sqrt(max(gains[best], 1e-12))
            parts = np.vstack([parts, part])
            gains = gains - part**2
            gains[rows] = -np.inf
        return np.array(rows, dtype=np.int64)

    return choose


def _true_likes(world: World, person: int, posts: Rows) -> float:
    topics = world.posts.primary[posts]
    fatigue = np.array([int((topics[:k] == topics[k]).sum()) for k in range(len(topics))])
    shown = Shown(
        person=np.full(len(posts), person),
        post=posts,
        at_us=np.full(len(posts), world.behaviour.end_us),
        position=np.arange(len(posts)),
        fatigue=fatigue,
        followed=_follows(world, person, posts),
    )
    return float(world.behaviour.truth(shown).of(EventType.LIKE).sum())


def _follows(world: World, person: int, posts: Rows) -> NDArray[np.bool_]:
    graph = world.history.follows
    mine = graph.followee[graph.follower == person]
    return np.isin(world.posts.author[posts], mine)


def _ranked_world() -> tuple[World, list[Pool], list[int], Rows]:
    """Give the world, a pool a viewer, the viewers' rows in it, and post id -> row."""
    home = BENCH / "diversity"
    shutil.rmtree(home, ignore_errors=True)
    world = World.generate(5, people=900, posts=4000, days=20, end_us=now_us())
    world.write(home / "files")
    with Workspace.open(home) as workspace:
        ingest(workspace, open_dataset(home / "files"), Reporter(as_json=True))
        materialize(workspace)
        data = read_training_data(workspace)
        bundle = train_ranking(data, small_config(), StageClock()).bundle.save(home / "bundles")
        (home / "bundles" / "CHAMPION").write_text(bundle.bundle_id, encoding="utf-8")
        service = open_service(
            workspace, Settings(home=home).unhurried(), policy=Policy(name="w", **_FREE)
        )  # type: ignore[arg-type]
        ids, names = workspace.ids.all(Namespace.PERSON)
        people = np.random.default_rng(1).permutation(len(ids))[:_FEEDS].tolist()
        for feed, place in enumerate(people, start=1):
            query = FeedQuery(FeedId(feed), UserId(int(ids[place])), now_us(), _PAGE)
            service.open(query)
        service.close()
        post_ids, post_names = workspace.ids.all(Namespace.POST)
        pools = _pools(home, len(people))
    rows = np.zeros(int(post_ids.max()) + 1, dtype=np.int64)
    rows[post_ids] = [int(name.removeprefix("post")) for name in post_names]
    viewers = [int(names[place].removeprefix("p")) for place in people]
    kept = [place for place, pool in enumerate(pools) if pool is not None]
    return world, [p for p in pools if p is not None], [viewers[k] for k in kept], rows


def _pools(home: Path, feeds: int) -> list[Pool | None]:
    store, policy = RecordStore(home / "records"), _policy()
    found: list[Pool | None] = []
    for feed in range(1, feeds + 1):
        record = store.find(feed)
        if record is None or record["level"] != "full":
            found.append(None)
            continue
        decision = Decision.of(record)
        found.append(decision.pool(decision.ledger(policy).value)[1])
    store.close()
    return found


if __name__ == "__main__":
    main()
