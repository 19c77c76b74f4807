"""Serving closed forms and factors: neighbours, low rank and FAISS against exact scores.

`make bench NAME=retrieval ARGS="--data ../shared/data"`: Gowalla's validation cut (LightGCN's train
lines alone; the test is not touched). Three tables in one: what a short list of neighbours or a low
rank loses of a model's quality; recall and latency of the bundle's index on real item vectors; and
people who were left out of the fit, folded in from their history, beside the same people fitted.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import faiss
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from benchmarks.measure import finish, percentiles
from contracts.events import EventType
from models.base import FloatArray, IntArray, ItemHistories, TrainingContext
from models.bundle import build_index
from models.collaborative import FactorModel
from training.dataset import Ragged
from training.metrics import top_k
from training.protocols.exam import judged, people_with_targets, ranked
from training.protocols.members import Als, Factors
from training.protocols.sets import GOWALLA
from training.protocols.spectral import GraphFilter, SpectralEase, histories
from training.protocols.split import Split, renumbered
from training.recipes.spectral import FilterConfig, FilterMap, RidgeConfig, RidgeMap, nearest

COLUMNS: Final = (
    "table", "model", "served as", "recall@20", "ndcg@20", "kept", "recall of index@100",
    "p50_ms", "p95_ms", "MB", "seconds",
)  # fmt: skip
_PEOPLE: Final = 4000
_QUERIES: Final = 500
_NEIGHBOURS: Final = (50, 100, 200)
_RANKS: Final = (256, 512)
_PROBES: Final = (8, 16, 32, 64)

Mapped = FilterMap | RidgeMap
Scorer = Callable[[IntArray], FloatArray]
CONTEXT: Final = TrainingContext(seed=0, threads=1)


def main() -> None:
    """Fit on the cut, serve each way, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the public sets")
    folder: Path = parser.parse_args().data
    (split,) = renumbered(GOWALLA.read(folder / GOWALLA.folder)).validations
    generator = np.random.Generator(np.random.PCG64(0))
    people = np.sort(generator.permutation(people_with_targets(split))[:_PEOPLE])
    filtered = FilterMap.fit(split.matrix(), FilterConfig(), CONTEXT)
    ridge = RidgeMap.fit(split.matrix(), RidgeConfig(), CONTEXT)
    als = Als("als", 256, 60.0, 40.0, iterations=8).fit(split, CONTEXT)
    rows: list[dict[str, Any]] = []
    for name, fitted in (("filter", filtered), ("ease", ridge)):
        rows += _closed_form(name, fitted, split, people)
    rows += _indexed("als 256", als, split, people)
    rows += _folded(split, people)
    finish("retrieval", rows, COLUMNS)


def _quality(split: Split, people: IntArray, scorer: Scorer) -> dict[str, float]:
    values = judged(split, people, ranked(split, people, scorer))
    return {name: round(float(values[name].mean()), 4) for name in ("recall@20", "ndcg@20")}


def _closed_form(
    name: str, fitted: Mapped, split: Split, people: IntArray
) -> Iterator[dict[str, Any]]:
    exact = _quality(split, people, lambda some: fitted.mapped(histories(split, some)))
    yield {"table": "closed form", "model": name, "served as": "exact", **exact, "kept": 1.0}
    started = perf_counter()
    lists = nearest(fitted.mapped, split.n_items, max(_NEIGHBOURS))
    seconds = perf_counter() - started
    for k in _NEIGHBOURS:
        graph = _best(*lists, k)
        found = _quality(
            split, people, lambda some, g=graph: (histories(split, some) @ g).toarray()
        )
        yield {
            "table": "closed form", "model": name, "served as": f"{k} neighbours", **found,
            "kept": round(found["recall@20"] / exact["recall@20"], 4),
            **_latency(people, lambda one, g=graph: (histories(split, one) @ g).toarray()),
            "MB": round((graph.data.nbytes + graph.indices.nbytes) / 1e6), "seconds": seconds,
        }  # fmt: skip
    for rank in _RANKS:
        left, right = _low_rank(fitted, rank)
        found = _quality(split, people, _product(split, left, right))
        yield {
            "table": "closed form", "model": name, "served as": f"rank {rank}", **found,
            "kept": round(found["recall@20"] / exact["recall@20"], 4),
            "MB": round(right.nbytes / 1e6),
        }  # fmt: skip


def _product(split: Split, left: FloatArray, right: FloatArray) -> Scorer:
    def score(people: IntArray) -> FloatArray:
        found: FloatArray = (histories(split, people) @ left) @ right.T
        return found

    return score


def _best(items: NDArray[np.int32], values: FloatArray, k: int) -> csr_array:
    there = items[:, :k] >= 0
    offsets = np.concatenate([[0], np.cumsum(there.sum(axis=1))])
    shape = (len(items), len(items))
    return csr_array((values[:, :k][there], items[:, :k][there], offsets), shape=shape)


def _low_rank(fitted: Mapped, rank: int) -> tuple[FloatArray, FloatArray]:
    """Give factors whose product is the map on its leading directions: [items, rank] twice."""
    vectors = fitted.spectrum.vectors[:, :rank]
    values = fitted.spectrum.values[:rank].astype(np.float32)
    left = vectors * (fitted.leading[:rank] + np.float32(fitted.slope) * values)
    if isinstance(fitted, RidgeMap):
        return left, vectors * fitted.weight[:, None]
    smooth = min(rank, fitted.smooth.shape[1])
    wide = np.zeros_like(vectors)
    wide[:, :smooth] = fitted.smooth_out[:, :smooth]
    low = np.zeros_like(vectors)
    low[:, :smooth] = fitted.smooth[:, :smooth]
    return np.concatenate([left, low], axis=1), np.concatenate([vectors, wide], axis=1)


def _indexed(
    name: str, fitted: Factors, split: Split, people: IntArray
) -> Iterator[dict[str, Any]]:
    viewers, items = fitted.pairs[0]
    asked = viewers[people[:_QUERIES]]
    started = perf_counter()
    index = build_index(items)
    seconds = perf_counter() - started
    exact = top_k(asked @ items.T, 100)
    own = _quality(split, people, lambda some: viewers[some] @ items.T)
    for probes in _PROBES:
        inverted = faiss.try_extract_index_ivf(index)
        if inverted is not None:
            inverted.nprobe = probes
        faiss.omp_set_num_threads(1)
        taken, found = [], []
        for one in asked:
            began = perf_counter()
            _, rows = index.search(one[None], 100)
            taken.append(perf_counter() - began)
            found.append(rows[0])
        hit = [np.isin(want, have).mean() for want, have in zip(exact, found, strict=True)]
        yield {
            "table": "index", "model": name, "served as": f"bundle's index, {probes} probes",
            **own, "recall of index@100": round(float(np.mean(hit)), 4), **percentiles(taken),
            "MB": round(items.nbytes / 1e6), "seconds": seconds,
        }  # fmt: skip
        if inverted is None:
            return


def _folded(split: Split, people: IntArray) -> Iterator[dict[str, Any]]:
    """Fit once with half of `people` left out; ask for that half beside the whole fit."""
    out = people[::2]
    mask = np.isin(split.learned.owners, out, invert=True)
    fewer = replace(split, learned=split.learned.keep(mask))
    fits: Mapping[str, Split] = {"fitted with them": split, "folded in": fewer}
    for served, cut in fits.items():
        for name, member in (("filter", GraphFilter()), ("ease", SpectralEase())):
            fitted = member.fit(cut, CONTEXT)
            found = _quality(split, out, lambda some, f=fitted: f.scores(split, some))
            yield {"table": "fold-in", "model": name, "served as": served, **found}
        factors = Als("als", 256, 60.0, 40.0, iterations=8).fit(cut, CONTEXT)
        known = np.bincount(cut.learned.values, minlength=split.n_items) > 0
        # implicit's alpha is the whole confidence of an action; ours comes on top of 1.
        model = FactorModel.from_factors("als", factors.pairs[0][1], known, 60.0, 39.0)
        found = _quality(split, out, lambda some, m=model: np.nan_to_num(_asked(m, split, some)))
        yield {"table": "fold-in", "model": "als 256", "served as": served, **found}


def _asked(model: FactorModel, split: Split, people: IntArray) -> FloatArray:
    """Fold histories in as serving does: every action a click."""
    lists: Ragged = split.asked
    width = int(lists.lengths[people].max(initial=1))
    place = np.arange(width)[None, :] + lists.offsets[people][:, None]
    there = place < lists.offsets[people + 1][:, None]
    rows = np.where(there, lists.values[np.minimum(place, len(lists.values) - 1)], -1)
    types = np.where(there, EventType.CLICK, 0).astype(np.int8)
    now = np.zeros(len(people), dtype=np.int64)
    return model.score_all(ItemHistories(rows, types, np.zeros_like(rows), now, deduplicated=True))


def _latency(people: IntArray, answer: Scorer) -> dict[str, float]:
    taken = []
    for person in people[:_QUERIES]:
        began = perf_counter()
        answer(np.array([person]))
        taken.append(perf_counter() - began)
    return percentiles(taken)


if __name__ == "__main__":
    main()
