"""Judge a stored bundle on today's data: its posts are mapped onto the set's, its weights kept."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from contracts.policy import fixed_blend
from models.base import Family, FloatArray, IntArray, ItemHistories, RetrievalModel
from models.blend import RetrievalBlend
from models.bundle import Bundle
from training.candidates import Candidates, union_candidates
from training.dataset import Dataset
from training.ensemble import ask_features, ensemble_lists, predict_values
from training.evaluate import target_slices
from training.metrics import LONGEST
from training.reading import FeatureSource
from training.scoring import Exam, Judged, Scorer, judge, ranked_lists


@dataclass(frozen=True, slots=True)
class Aligned:
    """A bundle's model that answers in a set's item rows; NaN for posts that it does not know."""

    model: RetrievalModel
    rows: IntArray
    """[n_items of the set]: the bundle's row of each, or -1."""

    def score_all(self, histories: ItemHistories) -> FloatArray:
        """Score the set's items, [Q, n_items]."""
        mapped = np.where(histories.rows >= 0, self.rows[np.maximum(histories.rows, 0)], -1)
        disliked = histories.disliked
        if disliked is not None:
            disliked = np.where(disliked >= 0, self.rows[np.maximum(disliked, 0)], -1)
        scores = self.model.score_all(replace(histories, rows=mapped, disliked=disliked))
        known = self.rows >= 0
        out = np.full((len(histories), len(self.rows)), np.nan, dtype=np.float32)
        out[:, known] = scores[:, self.rows[known]]
        return out


@dataclass(frozen=True, slots=True)
class AlignedBlend:
    """A blend over aligned families."""

    blend: RetrievalBlend
    families: Mapping[Family, Aligned]

    def score_all(self, histories: ItemHistories) -> FloatArray:
        """Score the set's items by the blend, [Q, n_items]."""
        return self.blend.combine({f: m.score_all(histories) for f, m in self.families.items()})


@dataclass(frozen=True, slots=True)
class AlignedBundle:
    """All that a bundle can rank a set's items by."""

    bundle: Bundle
    families: dict[Family, Aligned]
    scorers: dict[str, Scorer]
    """Model name -> scorer; all but the ensemble."""

    @classmethod
    def of(cls, bundle: Bundle, data: Dataset) -> "AlignedBundle":
        """Map a bundle onto a set."""
        rows = bundle.rows_of(data.post_ids)
        families = {f: Aligned(model, rows) for f, model in bundle.families.items()}
        half = RetrievalBlend(
            {Family(k): v for k, v in fixed_blend().blend.items()}, bundle.normalisers
        )
        scorers: dict[str, Scorer] = {
            "popularity": Aligned(bundle.popularity, rows),
            "item_knn": Aligned(bundle.item_knn, rows),
            **{family.value: aligned for family, aligned in families.items()},
            "fixed-blend": AlignedBlend(half, families),
            "retrieval-blend": AlignedBlend(bundle.blend, families),
        }
        return cls(bundle, families, scorers)

    def ensemble(
        self, data: Dataset, exam: Exam, source: FeatureSource, union: int, k: int = LONGEST
    ) -> tuple[IntArray, Candidates, FloatArray]:
        """Rank by the ensemble: lists [Q, k], the union of candidates, and their values [Q, C]."""
        candidates = union_candidates(exam, self.families, self.bundle.normalisers, union)
        features = ask_features(data, source, exam.queries, candidates.rows, candidates.scores)
        values = predict_values(
            self.bundle.ranker, self.bundle.policy, features, candidates.rows >= 0
        )
        rest = ranked_lists(exam, self.scorers["retrieval-blend"], k + union)
        return ensemble_lists(candidates, values, rest, k), candidates, values.astype(np.float32)


def judge_bundle(
    bundle: Bundle, data: Dataset, exam: Exam, source: FeatureSource, union: int
) -> dict[str, Judged]:
    """Judge everything a bundle can rank by on one exam; the ensemble comes last."""
    aligned = AlignedBundle.of(bundle, data)
    slices = target_slices(exam)
    judged = {
        name: judge(name, exam, ranked_lists(exam, scorer), slices)
        for name, scorer in aligned.scorers.items()
    }
    lists, _, _ = aligned.ensemble(data, exam, source, union)
    return {**judged, "ensemble": judge("ensemble", exam, lists, slices)}
