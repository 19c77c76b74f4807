"""The one reason shown beside each post: the most personal fact that led to it."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from contracts.degrade import SourceName
from contracts.feed import ReasonCode
from serving.candidates import Candidates
from serving.columns import AUTHOR, IN_NETWORK, SLOT, SOURCES, TOPIC

Rows = NDArray[np.int64]

# From the most to the least personal: the first source of a post in this order names the reason.
_ORDER = (
    (SourceName.IN_NETWORK, ReasonCode.FOLLOWING),
    (SourceName.ITEM_TO_ITEM, ReasonCode.SIMILAR_TO_LIKED),
    (SourceName.DEEP, ReasonCode.RECENT_INTEREST),
    (SourceName.COLLABORATIVE, ReasonCode.PEOPLE_LIKE_YOU),
    (SourceName.CONTENT, ReasonCode.TOPIC),
    (SourceName.FOLLOWS_OF_FOLLOWS, ReasonCode.PEOPLE_LIKE_YOU),
    (SourceName.CALLER, ReasonCode.CALLER),
    (SourceName.TRENDING, ReasonCode.TRENDING),
    (SourceName.FRESH, ReasonCode.NEW_POST),
)


class Reasons(NamedTuple):
    """A reason a post, in the order of the feed."""

    codes: tuple[str, ...]
    refs: Rows
    """Person id, post id or topic id that the reason refers to; -1 for none."""


def reasons_of(
    candidates: Candidates,
    rows: Rows,
    person_ids: Rows,
    topic_ids: Rows,
    seed_posts: dict[int, int],
) -> Reasons:
    """Name the reason of each row of a feed.

    `person_ids` and `topic_ids` map slots to ids; `seed_posts` maps a post slot that item-to-item
    found to the id of the post that led there.
    """
    bits = candidates[SOURCES][rows]
    followed = candidates[IN_NETWORK][rows]
    choice = np.full(len(rows), len(_ORDER) - 1)
    for place in range(len(_ORDER) - 1, -1, -1):
        choice[(bits & _ORDER[place][0].bit) != 0] = place
    choice[followed] = 0
    codes = tuple(_ORDER[place][1].value for place in choice.tolist())
    refs = np.full(len(rows), -1, dtype=np.int64)
    authors = candidates[AUTHOR][rows]
    following = (choice == 0) & (authors >= 0)
    refs[following] = person_ids[authors[following]]
    topics = candidates[TOPIC][rows]
    by_topic = np.isin(choice, (2, 4)) & (topics >= 0)
    refs[by_topic] = topic_ids[topics[by_topic]]
    for row in np.flatnonzero(choice == 1):
        refs[row] = seed_posts.get(int(candidates[SLOT][rows[row]]), -1)
    return Reasons(codes, refs)
