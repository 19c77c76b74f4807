"""The value fold: the ledger reconciles exactly, and harm never rises over good."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from contracts.policy import ACTIONS, Action, Policy
from contracts.value import action_terms, fold_parts, ledger, sink_unusable, squeeze

probabilities = arrays(
    np.float32,
    st.tuples(st.integers(1, 30), st.just(len(ACTIONS))),
    elements=st.floats(0, 1, width=32),
)
weights = st.dictionaries(st.sampled_from(list(Action)), st.floats(-300, 10), min_size=1).filter(
    lambda weighed: any(weighed.values())
)


@given(probabilities, weights, st.floats(0.01, 10), st.floats(0, 1))
def test_ledger_reconciles_exactly_over_random_policies(p, w, out_of_network, lift):
    policy = Policy(name="random", weights=w, out_of_network=out_of_network)
    terms = action_terms(p, policy)
    n = len(p)
    folded = ledger(
        terms, {"out_of_network": np.full(n, out_of_network)}, {"cold_start": np.full(n, lift)}
    )
    assert np.array_equal(folded.value, folded.refold())
    row = folded.row(0)
    net = 0.0
    for name in (k for k in row if k.startswith("term.")):
        net += row[name]
    value = float(squeeze(np.array([net]))[0]) * row["mult.out_of_network"]
    value += row["lift.cold_start"] if net >= 0 else 0.0
    assert value == folded.value[0]


@given(
    st.floats(-1e4, -1e-9), st.floats(0, 1e4), st.lists(st.floats(0.01, 10), max_size=2),
    st.lists(st.floats(0.01, 10), max_size=2),
)  # fmt: skip
def test_no_multiplier_lifts_harm_over_good(bad, good, up, down):
    net = {"all": np.array([bad, good])}
    size = max(len(up), len(down))
    multipliers = {
        str(k): np.array([(up + [1.0] * size)[k], (down + [1.0] * size)[k]]) for k in range(size)
    }
    value = fold_parts(net, multipliers, {"lift": np.array([0.0, 0.0])})
    assert value[0] < value[1]


def test_a_lift_never_reaches_a_candidate_with_a_negative_net():
    value = fold_parts({"net": np.array([-1.0, 1.0])}, {}, {"cold": np.array([5.0, 5.0])})
    assert value[0] < 1e-6
    assert value[1] > 5.0


@given(arrays(np.float64, st.integers(2, 50), elements=st.floats(-1e6, 1e6)))
def test_squeeze_is_positive_and_keeps_order(net):
    order = np.argsort(net, kind="stable")
    squeezed = squeeze(net)
    assert (squeezed > 0).all()
    assert (np.diff(squeezed[order]) >= 0).all()


def test_nan_and_infinity_sink():
    sunk = sink_unusable(np.array([1.0, np.nan, np.inf, -np.inf]))
    assert sunk.tolist() == [1.0, -np.inf, -np.inf, -np.inf]
    assert squeeze(np.array([np.nan])) == pytest.approx(0.0)
