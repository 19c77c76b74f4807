"""Bootstrap intervals: seeded, paired, and as wide as theory says."""

import numpy as np
import pytest

from training.intervals import Interval, bootstrap_means, interval


def test_seeded() -> None:
    values = np.arange(10.0)[:, None]
    np.testing.assert_array_equal(bootstrap_means(values, 4), bootstrap_means(values, 4))
    assert not np.array_equal(bootstrap_means(values, 4), bootstrap_means(values, 5))


def test_paired_difference_of_a_constant_shift_has_no_width() -> None:
    base = np.random.Generator(np.random.PCG64(1)).normal(size=50)
    one = bootstrap_means(base[:, None], 2)[:, 0]
    other = bootstrap_means((base + 0.25)[:, None], 2)[:, 0]
    gap = interval(0.25, other - one)
    assert gap.low == pytest.approx(0.25)
    assert gap.high == pytest.approx(0.25)


def test_width_is_that_of_the_normal_theory() -> None:
    values = np.random.Generator(np.random.PCG64(3)).normal(size=(400, 1))
    found = interval(float(values.mean()), bootstrap_means(values, 0)[:, 0])
    theory = 1.96 * float(values.std()) / 20.0
    assert (found.high - found.low) / 2 == pytest.approx(theory, rel=0.1)
    assert found.low < found.mean < found.high


def test_missing_values_are_left_out() -> None:
    values = np.array([[1.0], [np.nan], [3.0]])
    means = bootstrap_means(values, 0)
    assert np.nanmin(means) >= 1.0
    assert np.nanmax(means) <= 3.0


def test_nothing_known_has_no_interval() -> None:
    found = interval(float("nan"), np.full(5, np.nan))
    assert np.isnan(found.low)
    assert np.isnan(found.high)


def test_text() -> None:
    assert Interval(0.5, 0.25, 0.75).text(2) == "0.50 [0.25, 0.75]"
