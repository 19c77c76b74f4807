"""The content family: scikit-learn's TF-IDF and truncated SVD, then our own arrays."""

from dataclasses import dataclass, field, replace

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.utils.extmath import randomized_svd

from models.base import FloatArray, PostContent, TrainingContext, TrainingFrame
from models.content import ContentConfig, ContentModel
from models.text import TextEmbedder, documents, with_prior
from training.recipes.base import item_counts


def fit_embedder(content: PostContent, config: ContentConfig, seed: int) -> TextEmbedder:
    """Fit vocabulary, idf and SVD on posts; falls back to every term where all are rare."""
    texts = list(documents(content))
    minimum = config.min_documents if _repeats(texts, config.min_documents) else 1
    vectoriser = TfidfVectorizer(
        analyzer=_same, min_df=minimum, max_features=config.max_terms, sublinear_tf=True
    )
    matrix = vectoriser.fit_transform(texts or [["nothing"]])
    terms = vectoriser.get_feature_names_out().tolist()
    width = max(1, min(config.dimensions, min(matrix.shape) - 1))
    if min(matrix.shape) < 2:
        components = np.ones((len(terms), 1), dtype=np.float32)
    else:
        # What TruncatedSVD runs, without its variances, which are 0 / 0 where all posts are alike.
        _, _, directions = randomized_svd(matrix, width, n_iter=7, random_state=seed)
        components = np.ascontiguousarray(directions.T, dtype=np.float32)
    return TextEmbedder(terms, vectoriser.idf_.astype(np.float32), components)


@dataclass(frozen=True, slots=True)
class ContentRecipe:
    """Fold posts to vectors; viewers need no fitting."""

    config: ContentConfig = field(default_factory=ContentConfig)
    name: str = "content"

    def fit(self, frame: TrainingFrame, context: TrainingContext) -> ContentModel:
        """Fit the embedder on the posts and the appeal prior on the actions."""
        embedder = fit_embedder(frame.known_content(), self.config, context.seed)
        appeal = self.config.prior_weight * appeal_prior(frame)
        middle = float(np.median(appeal)) if len(appeal) else 0.0
        vectors = with_prior(embedder.embed(frame.content), appeal)
        return ContentModel(self.name, self.config, embedder, vectors, middle)


def reweighed(model: ContentModel, prior_weight: float) -> ContentModel:
    """Give the same model, fitted with a prior weight above 0, with another one."""
    ratio = prior_weight / model.config.prior_weight
    vectors = model.vectors.copy()
    vectors[:, -1] *= np.float32(ratio)
    config = model.config.model_copy(update={"prior_weight": prior_weight})
    return replace(model, config=config, vectors=vectors, new_prior=model.new_prior * ratio)


def appeal_prior(frame: TrainingFrame) -> FloatArray:
    """Scale the log of the people who acted on each item to [0, 1], [n_items]."""
    counts = np.log1p(item_counts(frame.interactions, frame.n_items))
    counts /= max(float(counts.max(initial=0.0)), 1.0)
    return counts


def _same(terms: list[str]) -> list[str]:
    return terms


def _repeats(texts: list[list[str]], minimum: int) -> bool:
    """Say whether any term stands in at least `minimum` posts."""
    counts: dict[str, int] = {}
    for terms in texts:
        for term in set(terms):
            counts[term] = counts.get(term, 0) + 1
            if counts[term] >= minimum:
                return True
    return False
