"""Statistics of post texts that need no model."""

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.slots import Float32s, Ints

_URL: Final = r"(?i)\b(https?://|www\.)\S"


def text_statistics(texts: pa.ChunkedArray, topic_counts: Ints) -> Float32s:
    """Compute the columns of `views.TEXT_STATS` as finished features: [n] texts -> [n, 5]."""
    texts = texts.fill_null("") if texts.null_count else texts
    columns = (
        np.log1p(_numbers(pc.utf8_length(texts))),
        np.log1p(_numbers(pc.count_substring_regex(texts, r"\S+"))),
        topic_counts,
        _numbers(pc.match_substring(texts, "?")),
        _numbers(pc.match_substring_regex(texts, _URL)),
    )
    return np.stack(columns, axis=1).astype(np.float32)


def _numbers(column: pa.ChunkedArray) -> Ints:
    return column.cast(pa.int64()).to_numpy()  # type: ignore[no-any-return]
