"""Folding a viewer in: both ways of solving give the normal equations' answer."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.base import STRENGTH
from models.collaborative import FactorModel
from training.recipes.laws import histories_of


@given(seed=st.integers(0, 2**32), size=st.integers(2, 24), length=st.integers(1, 24))
def test_a_viewer_solves_the_normal_equations(seed: int, size: int, length: int) -> None:
    generator = np.random.Generator(np.random.PCG64(seed))
    factors = generator.normal(size=(30, size)).astype(np.float32)
    known = generator.random(30) < 0.9
    known[0] = True
    model = FactorModel.from_factors("als", factors, known, 5.0, 12.0)
    history = [0, *generator.permutation(np.arange(1, 30))[: length - 1].tolist()]
    asked = histories_of(history, [])
    found = model.viewer_vectors(asked)
    usable = [row for row in history if known[row]]
    y, mine = factors[known].astype(np.float64), factors[usable].astype(np.float64)
    extra = 12.0 * STRENGTH[asked.types[0][asked.rows[0] >= 0]][[known[row] for row in history]]
    left = y.T @ y + 5.0 * np.eye(size) + mine.T @ (mine * extra[:, None])
    exact = np.linalg.solve(left, (mine * (1.0 + extra)[:, None]).sum(axis=0))
    np.testing.assert_allclose(found[0], exact, rtol=2e-3, atol=2e-4)
    assert np.isnan(found[1]).all()
