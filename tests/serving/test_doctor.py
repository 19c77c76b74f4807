"""The doctor's logic, over plain numbers: order, bounds, sentences; each check is documented."""

import re
from math import inf
from pathlib import Path

import pytest

from contracts.funnel import Calibration, Recall, SourceFlow, StageTime
from serving.watching.checks import CHECKS, MIN_FEEDS
from serving.watching.doctor import Observed, Status, binding, diagnose
from serving.watching.feed_sums import FeedSums

PAGE = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text(encoding="utf-8")
FLOW = SourceFlow(found=100.0, reached=10.0, asked=90, empty=0)
FUNNEL = (
    FeedSums()
    .report()
    .model_copy(
        update={
            "feeds": 100, "ranked": 100, "levels": {"full": 100}, "sources": {"deep": FLOW},
            "candidates": 500.0, "personalised": 0.9, "warm": 0.9,
            "stages": dict.fromkeys(
                ("query", "sources", "hydrate", "filter", "score", "select", "feed"),
                StageTime(p50_us=1000.0, p95_us=2000.0),
            ),
            "recall": Recall(feeds=50, mean=0.9, lowest=0.8),
            "calibration": {
                "click": Calibration(impressions=900, expected=90.0, observed=90.0, tolerance=1.2)
            },
        }
    )
)  # fmt: skip
HEALTHY = Observed(
    server_problem="", home_problem="", disk_used=0.5, published=True, bundle_problem="",
    bundle_age_days=1.0, ranker_healthy=True, online_store_problem="", lag_events=0,
    log_events=10_000, unfolded_events=10, ahead_hours=-0.1, records_due=100, records_missing=0,
    open_breakers=(), funnel=FUNNEL,
)  # fmt: skip


def healthy(**changes):
    """Change the funnel's fields where it has them, else those of the observation."""
    of_funnel = {k: v for k, v in changes.items() if k in type(FUNNEL).model_fields}
    own = {k: v for k, v in changes.items() if k not in of_funnel}
    funnel = FUNNEL.model_copy(update=of_funnel)
    return Observed(**{"funnel": funnel, **own}).over(HEALTHY)


def test_a_healthy_one_passes_every_check_and_an_unseen_one_none():
    assert {f.status for f in diagnose(HEALTHY, CHECKS)} == {Status.OK}
    assert {f.status for f in diagnose(Observed(), CHECKS)} == {Status.UNKNOWN}
    assert binding(diagnose(HEALTHY, CHECKS)) is None
    assert binding(()) is None


def calibration(observed, expected=100.0, tolerance=1.0):
    part = Calibration(impressions=900, expected=expected, observed=observed, tolerance=tolerance)
    return {"click": part}


def stages(p95_us):
    return {"stages": dict.fromkeys(FUNNEL.stages, StageTime(p50_us=1.0, p95_us=p95_us))}


@pytest.mark.parametrize(
    ("name", "ok", "warning", "broken"),
    [
        ("disk", {"disk_used": 0.89}, {"disk_used": 0.9}, {"disk_used": 0.97}),
        ("clock_ahead", {"ahead_hours": 0.09}, {"ahead_hours": 0.1}, {"ahead_hours": 24.0}),
        ("ranker", {"reasons": {"seen": 9}}, {"reasons": {"ranker_timeout": 1}},
         {"ranker_healthy": False}),
        ("source", {"failed": {"slate": 0}}, {"failed": {"source.deep": 1}},
         {"open_breakers": ("vector.deep",)}),
        ("component", {"failed": {}}, {"failed": {"slate": 1}}, {"open_breakers": ("slate",)}),
        ("empty_source", {"sources": {"deep": FLOW.model_copy(update={"empty": 26})}},
         {"sources": {"deep": FLOW.model_copy(update={"empty": 27})}},
         {"sources": {"deep": FLOW.model_copy(update={"empty": 90})}}),
        ("filters", {"removed": {"seen": 499.0}}, {"removed": {"seen": 100.0, "too_old": 280.0}},
         {"removed": {"seen": 100.0, "too_old": 390.0}}),
        ("seen", {"removed": {"seen": 290.0}}, {"removed": {"seen": 300.0}},
         {"removed": {"seen": 450.0}}),
        ("log_lag", {"lag_seconds": 9.0, "lag_events": 0}, {"lag_seconds": 1.0, "lag_events": 1},
         {"lag_seconds": 30.0, "lag_events": 1}),
        ("records", {"records_due": 10_000, "records_missing": 9},
         {"records_due": 10_000, "records_missing": 10}, {"records_missing": 5}),
        ("degraded", {"levels": {"full": 96, "cached": 4}}, {"levels": {"full": 95, "cached": 5}},
         {"levels": {"trending": 50}}),
        ("calibration", {"calibration": calibration(160.0, tolerance=1.1)},
         {"calibration": calibration(152.0)}, {"calibration": calibration(20.0)}),
        ("recall", {"recall": Recall(feeds=9, mean=0.1, lowest=0.0)},
         {"recall": Recall(feeds=10, mean=0.7, lowest=0.0)},
         {"recall": Recall(feeds=10, mean=0.4, lowest=0.0)}),
        ("cold_viewers", {"warm": 0.1}, {"warm": 0.1, "personalised": 0.4}, None),
        ("personalised", {"personalised": 0.1, "warm": 0.5}, {"personalised": 0.5},
         {"personalised": 0.2}),
        ("bundle_age", {"bundle_age_days": 6.9}, {"bundle_age_days": 7.0},
         {"bundle_age_days": 28.0}),
        ("checkpoint", {"unfolded_events": 999, "log_events": 999}, {"unfolded_events": 2000},
         None),
        ("clock_behind", {"ahead_hours": -719.0}, {"ahead_hours": -720.0}, None),
        ("latency", stages(49_000.0), stages(50_000.0), stages(150_000.0)),
        *((name, {}, None, {field: value}) for name, field, value in (
            ("server", "server_problem", "it is out"), ("home", "home_problem", "it is gone"),
            ("bundle", "published", False), ("bundle_fit", "bundle_problem", "it is damaged"),
            ("online_store", "online_store_problem", "it is out"),
        )),
    ],
)  # fmt: skip
def test_each_check_has_its_bounds_and_is_named_first(name, ok, warning, broken):
    expected = {Status.OK: ok, Status.WARNING: warning, Status.BROKEN: broken}
    for status, changes in expected.items():
        if changes is None:
            continue
        findings = diagnose(healthy(**changes), CHECKS)
        found = next(f for f in findings if f.name == name)
        assert found.status in ({status, Status.UNKNOWN} if status is Status.OK else {status})
        assert bool(found.sentence) == (status is not Status.OK)
        if status is not Status.OK:
            assert binding(findings) == found
            assert found.sentence.endswith(".")
            assert "{" not in found.sentence


def test_every_check_is_in_the_table_above():
    marks = test_each_check_has_its_bounds_and_is_named_first.pytestmark
    tried = {row[0] for mark in marks for row in mark.args[1]}
    assert tried == {check.name for check in CHECKS}


def test_what_is_broken_comes_before_what_is_doubtful_and_causes_before_symptoms():
    seen = healthy(disk_used=0.95, levels={"trending": 100}, published=False, personalised=0.0)
    bad = [f.name for f in diagnose(seen, CHECKS) if f.bad]
    assert bad == ["bundle", "degraded", "personalised", "disk"]


def test_a_few_feeds_say_nothing():
    few = healthy(feeds=MIN_FEEDS - 1, levels={"trending": MIN_FEEDS - 1}, warm=0.0)
    assert binding(diagnose(few, CHECKS)) is None


def test_one_that_was_measured_twice_counts_as_the_first_says():
    assert Observed(disk_used=0.1).over(Observed(disk_used=0.9, published=True)) == Observed(
        disk_used=0.1, published=True
    )


def test_every_check_is_documented_with_its_bounds():
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+ \| [^|]+) \|", PAGE, re.MULTILINE))
    assert list(rows) == [check.name for check in CHECKS]
    for check in CHECKS:
        broken = "-" if check.broken == inf else f"{check.broken:g}"
        assert rows[check.name] == f"{check.warning:g} | {broken}", check.name
