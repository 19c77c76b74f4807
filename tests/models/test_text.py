"""Our TF-IDF and SVD are scikit-learn's, without scikit-learn."""

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from models.base import PostContent
from models.content import ContentConfig
from models.text import TextEmbedder, documents, tokens, unit_rows
from training.recipes.content import fit_embedder

TEXTS = ["red dawn over red hills", "blue night", "red night", "hills at dawn", "blue hills"]


def content(texts: list[str]) -> PostContent:
    n = len(texts)
    topics = [[i % 2 + 1] for i in range(n)]
    return PostContent(texts, topics, np.arange(n) % 3 - 1, np.zeros(n, np.int64))


def test_terms_of_a_post() -> None:
    assert tokens("Red, a red DAWN!", [7], 3, 1995) == [
        "red", "red", "dawn", "topic 7", "made 1995", "decade 199", "author 3",
    ]  # fmt: skip
    assert "author -1" not in tokens("x", [], -1, 1970)


def test_equals_scikit_learn() -> None:
    posts = content(TEXTS)
    config = ContentConfig(dimensions=4, min_documents=1)
    embedder = fit_embedder(posts, config, 0)
    reference = TfidfVectorizer(analyzer=lambda terms: terms, sublinear_tf=True)
    weights = reference.fit_transform(list(documents(posts)))
    assert reference.get_feature_names_out().tolist() == list(embedder.terms)
    expected = unit_rows((weights @ embedder.components).astype(np.float32))
    np.testing.assert_allclose(embedder.embed(posts), expected, atol=1e-5)


def test_no_known_term_is_no_vector() -> None:
    embedder = TextEmbedder(["red"], np.ones(1, np.float32), np.ones((1, 2), np.float32))
    found = embedder.embed(content(["red", "green"]))
    np.testing.assert_allclose(np.linalg.norm(found[0]), 1.0, rtol=1e-6)
    assert np.isnan(found[1]).all()


@pytest.mark.parametrize("texts", [["only"], ["a1 a2", "b1 b2"]])
def test_hardly_any_text_still_fits(texts: list[str]) -> None:
    posts = content(texts)
    assert len(fit_embedder(posts, ContentConfig(), 0).embed(posts)) == len(texts)
