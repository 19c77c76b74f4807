"""Candidate hydrators: facts of the post, and the family scores."""

from typing import ClassVar

import numpy as np

from contracts.degrade import DegradeReason
from contracts.policy import FAMILIES
from models.base import Family
from serving import columns as col
from serving.candidates import Candidates, Column, members
from serving.components import Fault, OnError
from serving.context import QueryContext
from serving.runtime import Runtime


class _Needed:
    """A hydrator that no feed can do without."""

    fault: ClassVar[Fault] = Fault(OnError.FAIL, DegradeReason.FEED_FAILED)
    reads: ClassVar[frozenset[str]] = frozenset({col.SLOT})

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def neutral(self, rows: int) -> dict[str, Column] | None:
        """See `Hydrator`."""
        del rows
        return None


class PostHydrator(_Needed):
    """Gathers what the post table knows, by slot."""

    name: ClassVar[str] = "post"
    writes: ClassVar[frozenset[str]] = frozenset(
        {
            col.POST_ID,
            col.AUTHOR,
            col.CREATED,
            col.DELETED,
            col.TOPIC,
            col.LANGUAGE,
            col.IN_NETWORK,
            col.IMPRESSIONS,
            col.POSITIVES,
        }
    )

    def columns(self, context: QueryContext, candidates: Candidates) -> dict[str, Column]:
        """See `Hydrator`."""
        posts = self._runtime.cache.posts
        slots = candidates[col.SLOT]
        authors = posts.author_slot[slots].astype(np.int64)
        impressions, positives = self._runtime.cache.reception(slots)
        return {
            col.POST_ID: posts.post_id[slots],
            col.AUTHOR: authors,
            col.CREATED: posts.created_us[slots],
            col.DELETED: posts.deleted[slots],
            col.TOPIC: posts.topics[slots, 0],
            col.LANGUAGE: posts.language[slots],
            col.IN_NETWORK: members(authors, context.followees),
            col.IMPRESSIONS: impressions,
            col.POSITIVES: positives,
        }


class FamilyScoreHydrator(_Needed):
    """Scores every candidate by every family, whichever source found it; float16 [n, F]."""

    name: ClassVar[str] = "family_scores"
    writes: ClassVar[frozenset[str]] = frozenset({col.FAMILY})

    def columns(self, context: QueryContext, candidates: Candidates) -> dict[str, Column]:
        """See `Hydrator`; NaN where a family cannot score the viewer or the post."""
        bundle = self._runtime.bundle
        scores = np.full((len(candidates), len(FAMILIES)), np.nan, dtype=np.float16)
        if bundle is None:
            return {col.FAMILY: scores}
        rows = self._runtime.rows_of(candidates[col.SLOT])
        for column, name in enumerate(FAMILIES):
            vector = context.vectors.get(name)
            if vector is None:
                continue
            family = Family(name)
            raw = self._runtime.families[family].scores(rows, vector)
            scores[:, column] = bundle.normalise(family, raw)
        return {col.FAMILY: scores}
