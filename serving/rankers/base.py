"""The ranker: features and predictions for candidates, in this process or in another.

One class computes (`Ranker`); `RankerClient` is the protocol that the scorer talks to. The
in-process client calls it directly; `serving.rankers.remote` calls it over HTTP.
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from contracts.degrade import DegradeReason
from features.caches import FeatureCache
from models.ranker import EnsembleRanker


@dataclass(frozen=True, slots=True)
class RankRequest:
    """Score posts for a viewer."""

    viewer_id: int
    now_us: int
    log_seq: int
    """Event log position that must be applied before features are read."""
    post_ids: NDArray[np.int64]
    """[n]"""
    family: NDArray[np.float16]
    """[n, 4] normalised family scores, NaN where none."""


@dataclass(frozen=True, slots=True)
class RankResponse:
    """What was scored, exactly as scored."""

    features: NDArray[np.float16]
    """[n, F]"""
    probabilities: NDArray[np.float32]
    """[n, actions]"""


class RankerClient(Protocol):
    """Something that scores; its errors may carry a `degrade_reason`."""

    def score(self, request: RankRequest, slots: NDArray[np.int64]) -> RankResponse:
        """Score candidates; `slots` are their rows in the caller's own post table."""

    def healthy(self) -> bool:
        """Say whether a request would be answered now."""

    def close(self) -> None:
        """Give back what is held open."""


class Ranker:
    """Reads features from a cache, rounds them to float16, and predicts."""

    def __init__(self, model: EnsembleRanker, cache: FeatureCache) -> None:
        self._model = model
        self._cache = cache

    def score(self, request: RankRequest, slots: NDArray[np.int64]) -> RankResponse:
        """See `RankerClient`; `slots` are rows of this ranker's own cache."""
        wide = self._cache.feature_matrix(
            request.viewer_id, slots, request.now_us, request.family.astype(np.float32)
        )
        features = to_float16(wide)
        return RankResponse(features, self._model.predict(features))

    def healthy(self) -> bool:
        """See `RankerClient`: a ranker in this process is always there."""
        return True

    def close(self) -> None:
        """See `RankerClient`: nothing is held open."""


class NoRanker:
    """Stands where no bundle is published; the policy in force does not ask for it."""

    def score(self, request: RankRequest, slots: NDArray[np.int64]) -> RankResponse:
        """Refuse: see `RankerClient`."""
        del request, slots
        raise RankerUnreachable("no bundle is published")

    def healthy(self) -> bool:
        """See `RankerClient`."""
        return False

    def close(self) -> None:
        """See `RankerClient`: nothing is held open."""


class RankerUnreachable(Exception):
    """The ranker could not be asked."""

    degrade_reason: ClassVar[DegradeReason] = DegradeReason.RANKER_UNREACHABLE


class RankerTimeout(Exception):
    """The ranker did not answer in time."""

    degrade_reason: ClassVar[DegradeReason] = DegradeReason.RANKER_TIMEOUT


_FLOAT16_MAX = float(np.finfo(np.float16).max)


def to_float16(wide: NDArray[np.float32]) -> NDArray[np.float16]:
    """Round features as they are recorded and scored; out-of-range values stop at the ends."""
    return np.clip(wide, -_FLOAT16_MAX, _FLOAT16_MAX).astype(np.float16)
