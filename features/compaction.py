"""Which segment files to merge: small ones of one month, so that the work stays proportional."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from features.segments import Segment

TARGET_ROWS: Final = 1_000_000
"""A merged file holds at most this many rows; a file of half of it is left alone."""

_GROWTH: Final = 4
_MOST_FILES: Final = 8


def merge_plan(segments: Sequence[Segment]) -> list[list[Segment]]:
    """Give groups of two or more files of one month to merge, each within TARGET_ROWS.

    A file joins only where the smaller ones together reach a quarter of it, or where the month has
    more than eight files: a large file is not rewritten for each few rows.
    """
    months: dict[str, list[Segment]] = defaultdict(list)
    for segment in segments:
        if segment.rows < TARGET_ROWS // 2:
            months[segment.month].append(segment)
    groups: list[list[Segment]] = []
    for small in months.values():
        group: list[Segment] = []
        rows = 0
        for segment in sorted(small, key=lambda s: (s.rows, s.min_seq)):
            too_large = group and rows * _GROWTH < segment.rows and len(small) <= _MOST_FILES
            if too_large:
                break
            if rows + segment.rows > TARGET_ROWS:
                groups.append(group)
                group, rows = [], 0
            group.append(segment)
            rows += segment.rows
        groups.append(group)
    return [group for group in groups if len(group) > 1]
