"""Judge a stored bundle on today's data as it would serve it: mapped onto the set, weights kept."""

from dataclasses import dataclass, replace
from typing import Final, TypeVar

import numpy as np

from contracts.policy import fixed_blend
from models.base import (
    BoolArray,
    Family,
    FloatArray,
    IntArray,
    ItemHistories,
    PostContent,
    RetrievalModel,
    Scorer,
    VectorModel,
)
from models.blend import BlendedFamilies, RetrievalBlend
from models.bundle import Bundle
from training.candidates import Candidates, union_candidates
from training.dataset import Dataset
from training.ensemble import ask_features, ensemble_lists, predict_values
from training.evaluate import target_slices
from training.metrics import LONGEST
from training.reading import FeatureSource
from training.scoring import Exam, Judged, judge, ranked_lists
from training.split import Split

Model = TypeVar("Model", bound=VectorModel)
STRANGERS: Final = ("people_never_trained_on", "posts_unknown_to_bundle")


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


def over_set(model: Model, rows: IntArray, content: PostContent) -> Model:
    """Give the model over a set's rows; `rows` [n_items of the set]: its own row of each, or -1.

    Posts that came after it get the vector of their content, as in serving.
    """
    vectors = model.item_vectors()[rows].astype(np.float32)
    new = np.flatnonzero(rows < 0)
    if len(new):
        vectors[new] = model.encode_posts(content.take(new))
    return model.with_vectors(vectors)


@dataclass(frozen=True, slots=True)
class AlignedBundle:
    """All that a bundle can rank a set's items by."""

    bundle: Bundle
    families: dict[Family, Scorer]
    scorers: dict[str, Scorer]
    """Model name -> scorer; all but the ensemble."""

    @classmethod
    def of(cls, bundle: Bundle, data: Dataset) -> "AlignedBundle":
        """Map a bundle onto a set."""
        rows = bundle.rows_of(data.post_ids)
        families: dict[Family, Scorer] = {
            family: over_set(model, rows, data.content)
            if isinstance(model, VectorModel)
            else Aligned(model, rows)
            for family, model in bundle.families.items()
        }
        half = RetrievalBlend(
            {Family(k): v for k, v in fixed_blend().blend.items()}, bundle.normalisers
        )
        scorers: dict[str, Scorer] = {
            "popularity": Aligned(bundle.popularity, rows),
            **{family.value: model for family, model in families.items()},
            "fixed-blend": BlendedFamilies(half, families),
            "retrieval-blend": BlendedFamilies(bundle.blend, families),
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
    slices = {**target_slices(exam), **stranger_slices(bundle, data, exam)}
    judged = {
        name: judge(name, exam, ranked_lists(exam, scorer), slices)
        for name, scorer in aligned.scorers.items()
    }
    lists, _, _ = aligned.ensemble(data, exam, source, union)
    return {**judged, "ensemble": judge("ensemble", exam, lists, slices)}


def has_seen_test(bundle: Bundle, data: Dataset, split: Split) -> bool:
    """Say whether a bundle has learned from actions that lie in the test of a split.

    By each person's order the newest actions are the test, whatever their time.
    """
    if split.cuts_us is None and bundle.manifest.config.get("final_fit"):
        return True
    newest = int(data.actions.times_us[split.refit].max(initial=0))
    return bundle.manifest.data.last_us > newest


def stranger_slices(bundle: Bundle, data: Dataset, exam: Exam) -> dict[str, BoolArray]:
    """Pick targets of people who did nothing before the bundle's last lesson, and on posts that
    it does not know: what folding in and encoding from content are worth."""
    early = data.actions.times_us <= bundle.manifest.data.last_us
    trained_on = np.isin(np.arange(data.n_users), data.actions.user_rows[early])
    people = exam.queries.user_rows[exam.targets.owners]
    unknown: BoolArray = bundle.rows_of(data.post_ids)[exam.targets.values] < 0
    return dict(zip(STRANGERS, (~trained_on[people], unknown), strict=True))
