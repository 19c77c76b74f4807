"""The exchange of the benchmark of other systems: files change nothing, and one code judges."""

import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers.exchange import Task
from benchmarks.training import METRICS, PINS, Run, measured
from models.base import TrainingContext
from training.dataset import Ragged
from training.protocols.exam import judged, people_with_targets, ranked
from training.protocols.members import Als
from training.protocols.split import Split, from_pairs

ROOT = Path(__file__).parents[2]
SETTINGS = {"factors": 8, "regularization": 2.0, "alpha": 5.0, "iterations": 4}


@pytest.fixture(scope="module")
def split() -> Split:
    """200 people in two groups, each of which acts on its own half of 160 items."""
    generator = np.random.Generator(np.random.PCG64(1))
    halves = [generator.permutation(80)[:14] + 80 * (person % 2) for person in range(200)]
    people = np.arange(200)
    learned = from_pairs(people.repeat(10), np.concatenate([h[:10] for h in halves]), 200)
    targets = from_pairs(people.repeat(4), np.concatenate([h[10:] for h in halves]), 200)
    return Split("made", 160, learned, learned, targets)


@pytest.mark.parametrize("system", ["implicit", "headwater"])
def test_a_system_in_a_process_of_its_own_is_judged_as_in_this_one(system, split, tmp_path):
    found = measured(Path(sys.executable), Run(system, "als", "made", SETTINGS), split, tmp_path)
    fitted = Als("als", 8, 2.0, 5.0, iterations=4).fit(split, TrainingContext(seed=0, threads=1))
    people = people_with_targets(split)
    lists = ranked(split, people, lambda asked: np.array(fitted.scores(split, asked)))
    expected = judged(split, people, lists)
    assert {m: found[m] for m in METRICS} == pytest.approx(
        {m: float(expected[m].mean()) for m in METRICS}, abs=1e-6
    )
    assert expected["recall@10"].mean() > 0.05  # chance in the right half
    assert found["fit_seconds"] > 0
    assert found["peak_mb"] >= found["base_mb"] > 0


@pytest.mark.parametrize("model", ["ease", "knn"])
def test_our_other_models_answer_a_task(model, split, tmp_path):
    run = Run("headwater", model, "made", {"ease": {"ridge": 5.0}, "knn": {"K": 9}}[model])
    assert measured(Path(sys.executable), run, split, tmp_path)["recall@10"] > 0.05


def task(n_items: int) -> Task:
    lists = Ragged(np.array([2, 0, 1]), np.array([0, 2, 3]))
    return Task("any", {}, n_items, lists.values, lists.offsets, np.array([0, 1]))


def test_what_is_known_is_left_out_of_lists_made_from_scores():
    scores = np.array([[9.0, 1.0, 8.0, 2.0], [1.0, 9.0, 3.0, 2.0]])
    lists = task(4).best(lambda people: scores[people])
    assert lists.tolist() == [[3, 1, -1, -1], [2, 3, 0, -1]]


def test_pairs_become_lists_in_their_order():
    lists = task(9).filled(np.array([1, 0, 1, 0, 1]), np.array([5, 7, 4, 3, 8]))
    assert lists[:, :4].tolist() == [[7, 3, -1, -1], [5, 4, 8, -1]]


@pytest.mark.parametrize("path", sorted(PINS.glob("*.txt")), ids=lambda path: path.stem)
def test_environments_are_pinned_and_share_our_torch(path):
    """Another torch than ours may be a build of gigabytes."""
    pins = path.read_text(encoding="utf-8").split()
    assert all("==" in pin for pin in pins)
    ours = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert all(f'"{pin}"' in ours for pin in pins if pin.startswith("torch=="))
