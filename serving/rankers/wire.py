"""The binary form of a ranking request and its answer: a fixed header, then plain arrays.

Request:  magic, viewer id, now, log position, rows | post ids int64 [n] | family float16 [n, 4]
Response: magic, rows, features, actions | float16 [n, F] | float32 [n, A]
All little-endian.
"""

from struct import Struct
from typing import Final

import numpy as np

from contracts.errors import InvalidInput
from contracts.policy import ACTIONS, FAMILIES
from features.views import FEATURES
from serving.rankers.base import RankRequest, RankResponse

_REQUEST: Final = Struct("<4sqqqi")
_RESPONSE: Final = Struct("<4siii")
_ASK: Final = b"HWQ1"
_TELL: Final = b"HWR1"
MAX_ROWS: Final = 5000


def write_request(request: RankRequest) -> bytes:
    """Serialise a request."""
    head = _REQUEST.pack(
        _ASK, request.viewer_id, request.now_us, request.log_seq, len(request.post_ids)
    )
    return head + request.post_ids.tobytes() + request.family.tobytes()


def read_request(raw: bytes) -> RankRequest:
    """Read a request; InvalidInput where it is cut short, too long, or not one."""
    if len(raw) < _REQUEST.size:
        raise InvalidInput(f"a ranking request has at least {_REQUEST.size} bytes, got {len(raw)}")
    magic, viewer, now, seq, rows = _REQUEST.unpack_from(raw)
    ids_end = _REQUEST.size + 8 * max(rows, 0)
    end = ids_end + 2 * len(FAMILIES) * max(rows, 0)
    if magic != _ASK or not 0 <= rows <= MAX_ROWS or len(raw) != end:
        raise InvalidInput(f"not a ranking request of this version ({len(raw)} bytes)")
    ids = np.frombuffer(raw, dtype="<i8", count=rows, offset=_REQUEST.size)
    family = np.frombuffer(raw, dtype="<f2", count=rows * len(FAMILIES), offset=ids_end)
    return RankRequest(viewer, now, seq, ids, family.reshape(rows, len(FAMILIES)))


def write_response(response: RankResponse) -> bytes:
    """Serialise an answer."""
    rows, features = response.features.shape
    head = _RESPONSE.pack(_TELL, rows, features, response.probabilities.shape[1])
    return head + response.features.tobytes() + response.probabilities.tobytes()


def read_response(raw: bytes, rows: int) -> RankResponse:
    """Read an answer of `rows` rows; InvalidInput where it does not fit this code."""
    width, actions = len(FEATURES), len(ACTIONS)
    expected = _RESPONSE.size + rows * (2 * width + 4 * actions)
    head = _RESPONSE.unpack_from(raw) if len(raw) == expected else None
    if head != (_TELL, rows, width, actions):
        raise InvalidInput(f"the ranker's answer does not fit: {len(raw)} bytes of {expected}")
    split = _RESPONSE.size + 2 * rows * width
    features = np.frombuffer(raw, dtype="<f2", count=rows * width, offset=_RESPONSE.size)
    probabilities = np.frombuffer(raw, dtype="<f4", count=rows * actions, offset=split)
    return RankResponse(features.reshape(rows, width), probabilities.reshape(rows, actions))
