"""Arrow schemas of the entities beside events: people, posts, follows, blocks."""

from typing import Final

import pyarrow as pa

from contracts.events import UTC_US

PEOPLE_SCHEMA: Final = pa.schema(
    [
        pa.field("person_id", pa.int64(), nullable=False),
        pa.field("created", UTC_US),
        pa.field("language", pa.string()),
        pa.field("attributes", pa.string()),  # a JSON object: whatever else the source said
    ]
)

POSTS_SCHEMA: Final = pa.schema(
    [
        pa.field("post_id", pa.int64(), nullable=False),
        pa.field("author_id", pa.int64()),
        pa.field("text", pa.string(), nullable=False),
        pa.field("topics", pa.list_(pa.int64()), nullable=False),  # ids of Namespace.TOPIC
        pa.field("language", pa.string()),
        pa.field("created", UTC_US, nullable=False),
        pa.field("known", UTC_US, nullable=False),
        pa.field("deleted", pa.bool_(), nullable=False),
    ]
)

FOLLOWS_SCHEMA: Final = pa.schema(
    [
        pa.field("follower_id", pa.int64(), nullable=False),
        pa.field("followee_id", pa.int64(), nullable=False),
        pa.field("since", UTC_US, nullable=False),
    ]
)

BLOCKS_SCHEMA: Final = pa.schema(
    [
        pa.field("blocker_id", pa.int64(), nullable=False),
        pa.field("blocked_id", pa.int64(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),  # block or mute
        pa.field("since", UTC_US, nullable=False),
    ]
)
