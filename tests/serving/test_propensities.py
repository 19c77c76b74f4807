"""Propensities by construction: what is logged is how often it happens. The long run: verify."""

from collections import Counter

from benchmarks.propensities import examine, path_p_value


def test_logged_chances_are_the_frequencies():
    found = [examine((feed, 1500)) for feed in range(4)]
    assert min(row["p"] for row in found) > 1e-5
    assert min(row["paths"] for row in found) > 3
    assert all(0.98 <= row["kept"] <= 1.0 + 1e-9 for row in found)


def test_a_wrong_chance_is_noticed():
    paths = Counter({(0, 1): 700, (1, 0): 300})
    assert path_p_value(paths, {(0, 1): 0.7, (1, 0): 0.3}, 1000) > 0.9
    assert path_p_value(paths, {(0, 1): 0.6, (1, 0): 0.4}, 1000) < 1e-5
