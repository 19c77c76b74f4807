"""Candidate hydrators: facts of the post, and the family scores."""

from typing import ClassVar

import numpy as np

from contracts.degrade import DegradeReason
from contracts.policy import FAMILIES
from models.base import Family
from serving.candidates import (
    AUTHOR,
    CREATED,
    DELETED,
    FAMILY,
    IMPRESSIONS,
    IN_NETWORK,
    LANGUAGE,
    POSITIVES,
    POST_ID,
    SLOT,
    TOPIC,
    Candidates,
    Column,
    members,
)
from serving.components import Fault, OnError
from serving.context import QueryContext
from serving.runtime import Runtime


class _Needed:
    """A hydrator that no feed can do without."""

    def neutral(self, rows: int) -> dict[str, Column] | None:
        """See `Hydrator`."""
        del rows
        return None


class PostHydrator(_Needed):
    """Gathers what the post table knows, by slot."""

    name: ClassVar[str] = "post"
    fault: ClassVar[Fault] = Fault(OnError.FAIL, DegradeReason.FEED_FAILED)
    reads: ClassVar[frozenset[str]] = frozenset({SLOT})
    writes: ClassVar[frozenset[str]] = frozenset(
        {POST_ID, AUTHOR, CREATED, DELETED, TOPIC, LANGUAGE, IN_NETWORK, IMPRESSIONS, POSITIVES}
    )

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def columns(self, context: QueryContext, candidates: Candidates) -> dict[str, Column]:
        """See `Hydrator`."""
        posts = self._runtime.cache.posts
        slots = candidates[SLOT]
        authors = posts.author_slot[slots].astype(np.int64)
        impressions, positives = self._runtime.cache.reception(slots)
        return {
            POST_ID: posts.post_id[slots],
            AUTHOR: authors,
            CREATED: posts.created_us[slots],
            DELETED: posts.deleted[slots],
            TOPIC: posts.topics[slots, 0],
            LANGUAGE: posts.language[slots],
            IN_NETWORK: members(authors, context.followees),
            IMPRESSIONS: impressions,
            POSITIVES: positives,
        }


class FamilyScoreHydrator(_Needed):
    """Scores every candidate by every family, whichever source found it; float16 [n, F]."""

    name: ClassVar[str] = "family_scores"
    fault: ClassVar[Fault] = Fault(OnError.FAIL, DegradeReason.FEED_FAILED)
    reads: ClassVar[frozenset[str]] = frozenset({SLOT})
    writes: ClassVar[frozenset[str]] = frozenset({FAMILY})

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def columns(self, context: QueryContext, candidates: Candidates) -> dict[str, Column]:
        """See `Hydrator`; NaN where a family cannot score the viewer or the post."""
        bundle = self._runtime.bundle
        scores = np.full((len(candidates), len(FAMILIES)), np.nan, dtype=np.float16)
        if bundle is None:
            return {FAMILY: scores}
        rows = self._runtime.rows_of(candidates[SLOT])
        for column, name in enumerate(FAMILIES):
            vector = context.vectors.get(name)
            if vector is None:
                continue
            family = Family(name)
            raw = self._runtime.families[family].scores(rows, vector)
            scores[:, column] = bundle.normalise(family, raw)
        return {FAMILY: scores}
