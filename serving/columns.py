"""The columns of the candidate table: name, type and meaning, in one place."""

from typing import Final

SLOT: Final = "slot"  # int64: row of the post in the feature cache's post table
SOURCES: Final = "sources"  # int32: bit mask of SourceName
POST_ID: Final = "post_id"  # int64
AUTHOR: Final = "author_slot"  # int64, -1 where the post has no author
CREATED: Final = "created_us"  # int64
DELETED: Final = "deleted"  # bool
TOPIC: Final = "topic"  # int32: first topic's slot, -1 where it has none
LANGUAGE: Final = "language"  # int16 code, -1 unknown
IN_NETWORK: Final = "in_network"  # bool: the viewer follows the author
IMPRESSIONS: Final = "impressions"  # float32: impressions ever
POSITIVES: Final = "positives"  # float32: clicks and likes ever
AUTHOR_SHOWN: Final = "author_shown"  # float16: decayed impressions of the author by the viewer
TOPIC_SHOWN: Final = "topic_shown"  # float16: the same of the first topic
CONTROL: Final = "control"  # int8: 1 where the viewer asked for more, -1 for fewer
FAMILY: Final = "family"  # float16 [n, 4]: normalised family scores, NaN where none
FEATURES: Final = "features"  # float16 [n, F], as scored
PROBABILITIES: Final = "probabilities"  # float32 [n, actions]

RETRIEVED: Final = frozenset({SLOT, SOURCES})
"""The columns that every candidate table has from the start."""
