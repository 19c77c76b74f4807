"""A candidate's prediction never depends on the others of its batch."""

import subprocess
import sys
from hashlib import sha256
from os import environ
from pathlib import Path
from platform import machine

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.policy import ACTIONS
from models.ranker import BLOCK, EnsembleRanker, RankerConfig

FEATURES = 40


def make_ranker(members: int = 2) -> EnsembleRanker:
    draw = np.random.Generator(np.random.PCG64(0)).normal
    hidden, heads = 32, len(ACTIONS)

    def weight(*shape: int) -> np.ndarray:
        return draw(scale=0.2, size=(members, *shape)).astype(np.float32)

    weights = {
        "first.weight": weight(2 * FEATURES, hidden),
        "first.bias": weight(1, hidden),
        "second.weight": weight(hidden, hidden),
        "second.bias": weight(1, hidden),
        "head.weight": weight(hidden, heads),
        "head.bias": weight(1, heads),
        "skip.weight": weight(2 * FEATURES, heads),
    }
    trained = np.arange(heads) != 2
    prior = np.linspace(0.1, 0.2, heads).astype(np.float32)
    mean, scale = np.zeros(FEATURES, np.float32), np.ones(FEATURES, np.float32)
    return EnsembleRanker(
        RankerConfig(hidden=hidden, members=members), mean, scale, weights, trained, prior
    )


RANKER = make_ranker()
ROWS = np.random.Generator(np.random.PCG64(1)).normal(size=(700, FEATURES)).astype(np.float16)
ROWS[::5, 3] = np.nan
WHOLE = RANKER.predict(ROWS)


@settings(max_examples=30)
@given(st.lists(st.integers(0, 699), min_size=1, max_size=600))
def test_any_batch_in_any_order_gives_the_same_bits(rows: list[int]) -> None:
    np.testing.assert_array_equal(RANKER.predict(ROWS[rows]), WHOLE[rows])


@pytest.mark.parametrize("n", [1, 2, 7, BLOCK - 1, BLOCK, BLOCK + 1])
def test_sizes_at_which_products_change_their_sums(n: int) -> None:
    np.testing.assert_array_equal(RANKER.predict(ROWS[:n]), WHOLE[:n])


def _bits() -> str:
    return sha256(RANKER.predict(ROWS).tobytes()).hexdigest()


@pytest.mark.skipif(machine() not in {"x86_64", "AMD64"}, reason="kernels of x86 processors")
def test_kernels_of_other_processors_give_the_same_bits() -> None:
    found = set()
    for kernel in ("Prescott", "Sandybridge", "Haswell"):  # each can run on any later one
        done = subprocess.run(
            [sys.executable, "-c", "from test_ranker import _bits; print(_bits())"],
            cwd=Path(__file__).parent,
            env={**environ, "OPENBLAS_CORETYPE": kernel},
            capture_output=True,
            text=True,
            check=True,
        )
        found.add(done.stdout.strip())
    assert found == {_bits()}


def test_nothing_to_rank() -> None:
    assert RANKER.predict(ROWS[:0]).shape == (0, len(ACTIONS))


def test_float32_input_is_rounded_first() -> None:
    wide = ROWS[:9].astype(np.float32) * np.float32(1.00001)
    np.testing.assert_array_equal(RANKER.predict(wide), WHOLE[:9])


def test_missing_is_not_zero() -> None:
    rows = np.zeros((2, FEATURES), np.float16)
    rows[1, 0] = np.nan
    zero, missing = RANKER.predict(rows)
    assert not np.array_equal(zero, missing)
    assert np.isfinite(missing).all()


def test_untrained_head_answers_its_prior() -> None:
    assert set(WHOLE[:, 2].tolist()) == {float(RANKER.prior[2])}


def test_comes_back_from_disk(tmp_path: Path) -> None:
    RANKER.save(tmp_path)
    again = EnsembleRanker.load(tmp_path)
    np.testing.assert_array_equal(again.predict(ROWS), WHOLE)
