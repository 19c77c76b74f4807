"""Logged propensities against Monte-Carlo, and what exploration costs.

`make bench NAME=propensities`: 200 random feeds, each drawn 20,000 times under other feed ids. The
chance of a path of slots is the product of its logged conditional propensities; a chi-square test
compares it with how often the path came, cells below 5 expected draws pooled. The p-values of all
feeds must be uniform (Kolmogorov-Smirnov), none below 1e-5. One slot of the three is a cold-start
slot. The regret of a whole page of 20 is measured beside it.
"""

import argparse
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2, kstest

from benchmarks.measure import finish
from contracts.policy import ColdStart, Exploration, Policy, Selection
from serving.stages.slate import Pool, fill_slate

COLUMNS: Final = (
    "feeds", "draws", "paths_p50", "ks_p", "least_p", "page_value_worst", "page_value_mean",
)  # fmt: skip
_SLOTS: Final = 3
_LEAST_EXPECTED: Final = 5.0
_PAGE: Final = 20
_PAGES: Final = 400
VIEWER: Final = 77
SHORT: Final = Policy(
    name="short", selection=Selection(slate=_SLOTS), cold_start=ColdStart(slots=(1,), regret=0.02)
)


def main() -> None:
    """Draw, test, print and write; exit 1 where the propensities are wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--feeds", type=int, default=200)
    parser.add_argument("--draws", type=int, default=20_000)
    asked = parser.parse_args()
    with ProcessPoolExecutor() as workers:
        jobs = [(feed, asked.draws) for feed in range(asked.feeds)]
        rows = list(workers.map(examine, jobs, chunksize=5))
    p_values = np.array([row["p"] for row in rows])
    kept = np.array([row["kept"] for row in rows])
    summary = {
        "feeds": asked.feeds,
        "draws": asked.draws,
        "paths_p50": float(np.median([row["paths"] for row in rows])),
        "ks_p": float(kstest(p_values, "uniform").pvalue),
        "least_p": float(p_values.min()),
        "page_value_worst": float(kept.min()),
        "page_value_mean": float(kept.mean()),
    }
    finish("propensities", [summary], COLUMNS)
    if summary["ks_p"] <= 0.001 or summary["least_p"] < 1e-5 or kept.min() < 0.98:
        raise SystemExit("the logged propensities or the regret are not what they claim")


def examine(job: tuple[int, int]) -> dict[str, Any]:
    """Test one feed's propensities, and measure what exploration keeps of a page's value."""
    feed, draws = job
    pool = random_pool(feed)
    paths: Counter[tuple[int, ...]] = Counter()
    chances: dict[tuple[int, ...], float] = {}
    for draw in range(draws):
        slate = fill_slate(pool, SHORT, feed * draws + draw, VIEWER, _SLOTS)
        path = tuple(slate.rows.tolist())
        paths[path] += 1
        chances[path] = float(slate.propensity.prod())
    p_value = path_p_value(paths, chances, draws)
    return {"p": p_value, "paths": len(paths), "kept": kept_of_page(pool, feed)}


def path_p_value(
    paths: Counter[tuple[int, ...]], chances: dict[tuple[int, ...], float], draws: int
) -> float:
    """Compare how often paths came with the chances they logged; small cells are one cell."""
    expected = {path: chance * draws for path, chance in chances.items()}
    large = [path for path in paths if expected[path] >= _LEAST_EXPECTED]
    seen = np.array([paths[path] for path in large], dtype=np.float64)
    wanted = np.array([expected[path] for path in large])
    rest, seen_rest = draws - wanted.sum(), draws - seen.sum()
    if rest >= _LEAST_EXPECTED:
        seen, wanted = np.append(seen, seen_rest), np.append(wanted, rest)
    statistic = float(((seen - wanted) ** 2 / wanted).sum())
    return float(chi2.sf(statistic, max(len(seen) - 1, 1)))


def kept_of_page(pool: Pool, feed: int) -> float:
    """Give the mean value of drawn pages over the greedy page's, by position (1 / log2)."""
    policy = Policy(name="page")
    greedy = policy.model_copy(update={"exploration": Exploration(temperature=0.0)})
    best = _page_value(pool, greedy, 0)
    drawn = [_page_value(pool, policy, feed * _PAGES + draw) for draw in range(_PAGES)]
    return float(np.mean(drawn)) / best


def _page_value(pool: Pool, policy: Policy, feed_id: int) -> float:
    slate = fill_slate(pool, policy, feed_id, VIEWER, _PAGE)
    gained = (pool.values[slate.rows] * slate.multiplier)[:_PAGE]
    return float(gained @ (1.0 / np.log2(np.arange(2, len(gained) + 2))))


def random_pool(seed: int, size: int = 100) -> Pool:
    """Make a pool like those of feeds: skewed values, few authors and topics, some new posts."""
    generator = np.random.default_rng(seed)
    values = np.sort(generator.gamma(1.5, 0.3, size))[::-1].copy()
    flags: NDArray[np.bool_] = generator.random((2, size)) < np.array([[0.3], [0.1]])
    return Pool(
        np.arange(size, dtype=np.int64),
        values,
        generator.integers(-1, 40, size),
        generator.integers(-1, 12, size),
        flags[0],
        flags[1],
        generator.random(size).astype(np.float32),
        generator.integers(0, 20, size).astype(np.float32),
        generator.integers(0, 3, size).astype(np.float32),
        generator.integers(1, 2**63, size).astype(np.uint64),
    )


if __name__ == "__main__":
    main()
