"""The binary form of ranking requests and answers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import InvalidInput
from contracts.policy import ACTIONS, FAMILIES
from features.views import FEATURES
from serving.rankers.base import RankRequest, RankResponse, to_float16
from serving.rankers.wire import read_request, read_response, write_request, write_response


def _request(rows):
    generator = np.random.default_rng(rows)
    return RankRequest(
        7, 123, 45, generator.integers(0, 2**62, rows),
        generator.random((rows, len(FAMILIES))).astype(np.float16),
    )  # fmt: skip


@given(st.integers(0, 50))
def test_requests_and_answers_are_read_as_written(rows):
    request = _request(rows)
    again = read_request(write_request(request))
    assert (again.viewer_id, again.now_us, again.log_seq) == (7, 123, 45)
    assert np.array_equal(again.post_ids, request.post_ids)
    assert np.array_equal(again.family, request.family)
    answer = RankResponse(
        np.full((rows, len(FEATURES)), np.nan, np.float16),
        np.full((rows, len(ACTIONS)), 0.5, np.float32),
    )
    told = read_response(write_response(answer), rows)
    assert np.array_equal(told.features, answer.features, equal_nan=True)
    assert np.array_equal(told.probabilities, answer.probabilities)


@given(st.binary(max_size=200))
def test_noise_is_refused(raw):
    with pytest.raises(InvalidInput, match="ranking request"):
        read_request(raw)


def test_a_cut_answer_is_refused():
    with pytest.raises(InvalidInput, match="does not fit"):
        read_response(b"HWR1", 3)


def test_features_out_of_range_stop_at_the_ends():
    wide = np.array([[1e9, -1e9, np.nan, 1.0]], np.float32)
    rounded = to_float16(wide)
    assert np.isfinite(rounded[0, [0, 1, 3]]).all()
    assert np.isnan(rounded[0, 2])
