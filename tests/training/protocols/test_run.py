"""A protocol from its split to its table: judged as its source does, blind to the test."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.base import TrainingContext
from training.protocols.members import Ease, Popular, Walk
from training.protocols.report import write_protocol
from training.protocols.run import ENSEMBLE, ProtocolResult, reproduce
from training.protocols.sets import ProtocolSet, Published
from training.protocols.split import Split, from_pairs, hold_out
from training.stages import StageClock

PEOPLE, ITEMS, RIDGE = 90, 40, 2.0
CONTEXT = TrainingContext(threads=1)
MADE = ProtocolSet(
    name="made",
    folder="made",
    files=(),
    read=lambda _: made(),
    protocol="made for a test",
    metrics=("recall@10", "ndcg@10"),
    cuts=(10,),
    members=(Ease("ease", RIDGE, scale=0.0), Walk("walk"), Popular()),
    pool={"ease": 15, "walk": 15},
    published=(Published("Somebody", "a paper", {"ndcg@10": 0.25}),),
    goal={"recall@10": 0.5},
)


def made() -> Split:
    """Eight groups of people with five items each, and noise; a third is the test."""
    generator = np.random.Generator(np.random.PCG64(5))
    chance = np.full((PEOPLE, ITEMS), 0.1)
    chance[np.arange(PEOPLE)[:, None] % 8 == np.arange(ITEMS)[None, :] // 5] = 0.8
    people, items = np.nonzero(generator.random((PEOPLE, ITEMS)) < chance)
    whole = from_pairs(people, items, PEOPLE)
    split = hold_out(Split("made", ITEMS, whole, whole, whole), 0.33)
    return replace(split, validations=(hold_out(split, 0.2), hold_out(split, 0.2, seed=1)))


def run(split: Split) -> ProtocolResult:
    return reproduce(MADE, split, CONTEXT, StageClock())


@pytest.fixture(scope="module")
def result() -> ProtocolResult:
    return run(made())


def test_a_member_is_judged_by_the_definitions(result: ProtocolResult) -> None:
    """EASE and both metrics written out, over every item that the person has not acted on."""
    split = made()
    x = split.matrix().toarray().astype(np.float64)
    inverse = np.linalg.inv(x.T @ x + RIDGE * (x**2).sum() / PEOPLE * np.eye(ITEMS))
    scores = np.where(x > 0, -np.inf, x @ (np.eye(ITEMS) - inverse / np.diag(inverse)))
    recalls, ndcgs = [], []
    for person in range(PEOPLE):
        wanted = set(split.targets.values[slice(*split.targets.offsets[person : person + 2])])
        if wanted:
            best = np.argsort(-scores[person])[:10]
            found = [place for place, item in enumerate(best) if item in wanted]
            recalls.append(len(found) / len(wanted))
            ideal = sum(1 / np.log2(place + 2) for place in range(min(10, len(wanted))))
            ndcgs.append(sum(1 / np.log2(place + 2) for place in found) / ideal)
    ease = next(row for row in result.rows if row.model == "ease")
    assert result.people == len(recalls)
    assert ease.metrics["recall@10"].mean == pytest.approx(np.mean(recalls), abs=1e-9)
    assert ease.metrics["ndcg@10"].mean == pytest.approx(np.mean(ndcgs), abs=1e-9)


def test_the_ensemble_is_compared_with_the_best_member(result: ProtocolResult) -> None:
    assert [row.model for row in result.rows] == ["ease", "walk", "popularity", ENSEMBLE]
    *members, ensemble = result.rows
    best = max(row.metrics["ndcg@10"].mean for row in members)
    over = ensemble.over_best_single
    assert over is not None
    assert over.mean == pytest.approx(ensemble.metrics["ndcg@10"].mean - best, abs=1e-9)
    assert over.low <= over.mean <= over.high
    assert all(row.over_best_single is None for row in members)


def test_nothing_is_chosen_on_the_test(result: ProtocolResult) -> None:
    """Other test items are other figures and the very same blend."""
    split = made()
    moved = replace(split.targets, values=(split.targets.values + 7) % ITEMS)
    other = run(replace(split, targets=moved))
    assert other.blend == result.blend
    assert other.rows[-1].metrics != result.rows[-1].metrics


def test_stages_say_what_is_fitted_on_what() -> None:
    begun: list[str] = []
    reproduce(MADE, made(), CONTEXT, StageClock(begins=begun.append))
    assert [name for name in begun if "ease" in name] == [
        "fit ease, cut 1 of 2", "fit ease, cut 2 of 2", "fit ease, all of train", "test ease",
    ]  # fmt: skip


def test_the_section_is_written_once_and_compares(result: ProtocolResult, tmp_path: Path) -> None:
    path = tmp_path / "results.md"
    path.write_text("# Results\n\n## Another\n\nkept\n")
    for _ in range(2):
        write_protocol(path, result, {"Seed": "0, 1 threads"})
    text = path.read_text()
    assert text.count("## Published protocol: made") == 1
    assert "kept" in text
    assert "- Seed: 0, 1 threads" in text
    ours = result.rows[-1].metrics
    (theirs,) = re.findall(r"^\| Somebody \(a paper\) \| - \| (.*?) \|", text, re.MULTILINE)
    assert theirs == f"0.2500 (ours {ours['ndcg@10'].mean - 0.25:+.4f})"
    (goal,) = re.findall(r"^\| the goal \| (.*?) \|", text, re.MULTILINE)
    assert goal == f"0.5000 (ours {ours['recall@10'].mean - 0.5:+.4f})"
