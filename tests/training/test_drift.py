"""Drift: the figures against known ones, and a world that went on without its bundle."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from contracts.policy import FAMILIES
from features.views import FEATURES
from features.workspace import Workspace
from models.bundle import Bundle
from training.drift import (
    FEWEST,
    PSI_SHIFTED,
    SCORES,
    DriftReport,
    draw,
    drift_of,
    ks,
    psi,
    shifts_of,
    since_us,
)
from training.reading import TrainingData, read_training_data

VALUES = arrays(
    np.float64, st.integers(1, 60), elements=st.floats(-5, 5).map(lambda x: round(x, 1))
)


def opened(home: Path) -> tuple[Bundle, TrainingData]:
    with Workspace.open(home, read_only=True) as workspace:
        data = read_training_data(workspace)
    champion = (home / "bundles" / "CHAMPION").read_text().strip()
    return Bundle.load(home / "bundles" / champion), data


@pytest.fixture(scope="module")
def grown(grown_home: Path) -> tuple[Bundle, TrainingData]:
    return opened(grown_home)


@pytest.fixture(scope="module")
def report(grown: tuple[Bundle, TrainingData]) -> DriftReport:
    return drift_of(*grown)


def test_psi_is_what_its_formula_says() -> None:
    before = np.arange(1000.0)
    assert psi(before, before) == 0.0
    half = np.arange(500.0)  # the lower five tenths at 0.2 each, the upper five at the floor
    by_hand = 5 * (0.2 - 0.1) * np.log(2.0) + 5 * (1e-4 - 0.1) * np.log(1e-3)
    assert psi(before, half) == pytest.approx(by_hand, rel=0.02)


def test_a_fall_below_the_commonest_value_is_a_shift() -> None:
    mostly = np.repeat([0.0, 1.0], [8, 92])
    assert psi(mostly, mostly) == 0.0
    assert psi(mostly, np.repeat([0.0, 1.0], [80, 20])) > 1.0
    assert psi(np.full(50, 0.5), np.full(50, 0.2)) > 1.0
    assert psi(np.full(50, 0.5), np.full(50, 0.7)) > 1.0


def test_equal_samples_of_coarse_values_are_no_shift() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        one, other = generator.normal(size=(2, 311)).round(1)
        assert psi(one, other) < PSI_SHIFTED


def test_nulls_are_a_bin_of_their_own() -> None:
    before = np.arange(1000.0)
    after = np.where(np.arange(1000) % 2 == 0, np.nan, before)
    assert psi(before, after) > 1.0
    assert ks(before, after) < 0.01
    nothing = np.full(5, np.nan)
    assert psi(nothing, nothing) == 0.0
    assert ks(nothing, before) == 1.0
    assert ks(nothing, nothing) == 0.0
    (moved,) = shifts_of(["x"], nothing[:, None], before[:, None])
    assert np.isnan(moved.before)
    assert moved.psi > 1.0


@given(VALUES, VALUES)
def test_psi_is_never_negative_and_ks_is_the_largest_gap(
    before: np.ndarray, after: np.ndarray
) -> None:
    assert psi(before, after) >= 0.0
    gaps = [abs((before <= x).mean() - (after <= x).mean()) for x in [*before, *after]]
    assert ks(before, after) == pytest.approx(max(gaps))


def test_a_world_that_went_on(grown: tuple[Bundle, TrainingData], report: DriftReport) -> None:
    bundle, data = grown
    assert {s.name for s in report.features} == set(FEATURES)
    assert [s.psi for s in report.features] == sorted(
        (s.psi for s in report.features), reverse=True
    )
    assert [s.name for s in report.scores] == [*SCORES]
    assert set(report.calibration) >= {"click", "like"}
    assert 3.5 < report.days < 4.5
    assert min(report.rows) >= FEWEST
    assert data.impressions is not None
    late = data.impressions.times_us > since_us(bundle, data)
    known = np.isin(data.dataset.post_ids, bundle.post_ids)
    shown = known[data.impressions.item_rows[late]]
    assert report.unknown["posts"] == pytest.approx(1 - shown.mean())
    assert report.unknown["posts"] > 0.1
    assert report.due == (report.why != "features, scores and calibration are as they were")


def test_a_ranker_that_promises_too_much_makes_a_retrain_due(
    grown: tuple[Bundle, TrainingData], report: DriftReport
) -> None:
    bundle, data = grown
    weights = dict(bundle.ranker.weights)
    weights["head.bias"] = weights["head.bias"] + np.float32(2.0)
    found = drift_of(replace(bundle, ranker=replace(bundle.ranker, weights=weights)), data)
    assert found.due
    assert "times as often as predicted" in found.why
    assert found.calibration["click"].high < report.calibration["click"].low
    assert found.features == report.features


def test_served_scores_take_the_place_of_those_of_what_was_shown(
    grown: tuple[Bundle, TrainingData],
) -> None:
    one, other = np.zeros((400, len(SCORES))), np.zeros((400, len(SCORES)))
    other[:, -1] = 1.0
    found = drift_of(*grown, served=(one, other))
    assert found.scores_from == "decision records"
    assert [s.psi > 1.0 for s in found.scores] == [False] * len(FAMILIES) + [True]
    assert f"scores have shifted: {SCORES[-1]}" in found.why


def test_without_impressions_calibration_is_not_claimed(
    grown: tuple[Bundle, TrainingData],
) -> None:
    bundle, data = grown
    found = drift_of(bundle, replace(data, impressions=None))
    assert found.calibration == {}
    assert len(found.features) == len(FEATURES)


def test_nothing_is_said_where_nothing_came_since(small_home: Path) -> None:
    found = drift_of(*opened(small_home))
    assert not found.due
    assert found.why.startswith("nothing can be said yet: ")
    assert found.rows[1] < FEWEST


def test_the_picture_is_drawn(report: DriftReport, tmp_path: Path) -> None:
    draw(report, tmp_path / "reports" / "drift.png")
    assert (tmp_path / "reports" / "drift.png").read_bytes().startswith(b"\x89PNG")
