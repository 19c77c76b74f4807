"""From a post's words, topics and author to one dense vector: TF-IDF, then SVD."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from models.base import FloatArray, PostContent

_WORD: Final = re.compile(r"\w\w+")


def tokens(text: str, topics: Sequence[int], author_id: int, year: int) -> list[str]:
    """Split a post into terms: lower-case words, one a topic, one for the author, two for age."""
    words = _WORD.findall(text.lower())
    marks = [f"topic {topic}" for topic in topics]
    # Works of one time appeal to the same people; among fresh posts the year is in no way rare.
    age = [f"made {year}", f"decade {year // 10}"]
    return words + marks + age + ([f"author {author_id}"] if author_id >= 0 else [])


def documents(content: PostContent) -> Iterator[list[str]]:
    """Yield the terms of each post."""
    authors: list[int] = content.author_ids.tolist()
    years: list[int] = (
        content.created_us.astype("M8[us]").astype("M8[Y]").astype(int) + 1970
    ).tolist()
    for text, topics, author, year in zip(
        content.texts, content.topics, authors, years, strict=True
    ):
        yield tokens(text, topics, author, year)


@dataclass(frozen=True)
class TextEmbedder:
    """A fitted TF-IDF and SVD, free of scikit-learn (Deerwester et al., 1990).

    Term weights are (1 + log count) * idf, folded by the right singular vectors, at unit length.
    """

    terms: Sequence[str]
    idf: FloatArray
    """[terms]."""
    components: FloatArray
    """[terms, d]."""

    @cached_property
    def _vocabulary(self) -> dict[str, int]:
        return {term: row for row, term in enumerate(self.terms)}

    def embed(self, content: PostContent) -> FloatArray:
        """Fold posts into unit vectors, [m, d]; NaN rows where no term is known."""
        vocabulary = self._vocabulary
        folded = np.full((len(content), self.components.shape[1]), np.nan, dtype=np.float32)
        for row, terms in enumerate(documents(content)):
            known = Counter(vocabulary[t] for t in terms if t in vocabulary)
            if known:
                index = np.fromiter(known.keys(), np.int64, len(known))
                counts = np.fromiter(known.values(), np.float32, len(known))
                weights = (np.float32(1.0) + np.log(counts)) * self.idf[index]
                folded[row] = weights @ self.components[index]
        return unit_rows(folded)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Give the arrays to store; the terms are stored beside them as JSON."""
        return {"idf": self.idf, "components": self.components}

    @classmethod
    def restore(cls, terms: Sequence[str], arrays: dict[str, NDArray[Any]]) -> Self:
        """Rebuild from stored terms and arrays."""
        return cls(terms, arrays["idf"], arrays["components"])


def unit_rows(matrix: FloatArray) -> FloatArray:
    """Scale rows to length 1; a row of zeros becomes NaN."""
    length = np.linalg.norm(matrix, axis=1, keepdims=True)
    scaled: FloatArray = np.divide(
        matrix, length, out=np.full_like(matrix, np.nan), where=length > 1e-9
    )
    return scaled


def with_prior(unit: FloatArray, prior: FloatArray | np.float32) -> FloatArray:
    """Append the appeal coordinate to vectors [m, d]; NaN rows stay NaN: [m, d + 1]."""
    whole = np.empty((len(unit), unit.shape[1] + 1), dtype=np.float32)
    whole[:, :-1] = unit
    whole[:, -1] = np.where(np.isfinite(unit[:, 0]), prior, np.float32(np.nan))
    return whole
