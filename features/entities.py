"""Posts and people as growable NumPy columns; a slot is a row."""

from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from features.counters import CounterState, HourlyWindow
from features.event_arrays import int_column
from features.slots import Bools, Ints, SlotIndex, Slots, grown
from features.text_statistics import text_statistics
from features.views import AUTHOR_VIEW, PERSON_VIEW, POST_VIEW, TEXT_STATS

MAX_TOPICS: Final = 4
UNKNOWN_LANGUAGE: Final = -1


_ROW: Final = np.dtype(
    {
        "names": ["created_us", "text_stats", "author_slot", "topics", "language", "deleted"],
        "formats": ["i8", f"{len(TEXT_STATS)}f4", "i4", f"{MAX_TOPICS}i4", "i2", "?"],
        "offsets": [0, 8, 28, 32, 48, 50],
        "itemsize": 64,
    }
)
"""What does not change of a post, side by side: a request touches its posts in no order, and a row
is one look into memory."""


class LanguageCodes:
    """Number languages by their primary subtag (`en-GB` and `EN` are one)."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}

    def encode(self, column: pa.ChunkedArray) -> NDArray[np.int16]:
        """Encode languages [n]; null and empty become -1."""
        dictionary = column.combine_chunks().dictionary_encode()
        codes = [self._code(word) for word in dictionary.dictionary.to_pylist()]
        places = dictionary.indices.fill_null(len(codes)).to_numpy()
        encoded: NDArray[np.int16] = np.array([*codes, UNKNOWN_LANGUAGE], np.int16)[places]
        return encoded

    def _code(self, word: str | None) -> int:
        tag = (word or "").replace("_", "-").split("-")[0].strip().lower()
        return self._codes.setdefault(tag, len(self._codes)) if tag else UNKNOWN_LANGUAGE


class PersonTable:
    """People: counters of what they did (as viewer) and of what met their posts (as author)."""

    def __init__(self, languages: LanguageCodes) -> None:
        self.index = SlotIndex()
        self.as_viewer = CounterState.of(PERSON_VIEW)
        self.as_author = CounterState.of(AUTHOR_VIEW)
        self._languages = languages
        self._language: NDArray[np.int16] = np.zeros(0, np.int16)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def person_id(self) -> Ints:
        """Ids by slot, [n]."""
        return self.index.ids

    @property
    def language(self) -> NDArray[np.int16]:
        """Language codes by slot, [n]; -1 unknown."""
        return self._language[: len(self)]

    def slots_of(self, person_ids: Ints) -> Slots:
        """Look slots up; -1 where a person is not known."""
        return self.index.slots_of(person_ids)

    def ensure(self, person_ids: Ints) -> Slots:
        """Give each person a slot, making rows for new ones; null (-1) stays -1."""
        slots = self.index.add(person_ids)
        self.ensure_rows(len(self))
        return slots

    def ensure_rows(self, rows: int) -> None:
        """Make room for at least this many people."""
        self.as_viewer.ensure(rows)
        self.as_author.ensure(rows)
        self._language = grown(self._language, rows, fill=UNKNOWN_LANGUAGE)

    def add_people(self, people: pa.Table) -> None:
        """Add or update rows of PEOPLE_SCHEMA."""
        slots = self.ensure(int_column(people, "person_id"))
        self._language[slots] = self._languages.encode(people.column("language"))


class PostTable:
    """Posts: what does not change (author, topics, text) and the counters of what met them."""

    def __init__(self, people: PersonTable, languages: LanguageCodes) -> None:
        self.index = SlotIndex()
        self.topics_index = SlotIndex()
        """Topic id <-> topic slot."""
        self.counters = CounterState.of(POST_VIEW)
        self.window = HourlyWindow()
        self._people, self._languages = people, languages
        self._rows = np.zeros(0, _ROW)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def post_id(self) -> Ints:
        """Ids by slot, [n]."""
        return self.index.ids

    @property
    def author_slot(self) -> NDArray[np.int32]:
        """Slots of the authors in the `PersonTable`, [n]; -1 where a post has none."""
        return self._rows["author_slot"][: len(self)]

    @property
    def created_us(self) -> Ints:
        """Times of creation, [n]."""
        return self._rows["created_us"][: len(self)]

    @property
    def topics(self) -> NDArray[np.int32]:
        """Topic slots, [n, 4]; -1 where fewer."""
        return self._rows["topics"][: len(self)]

    @property
    def language(self) -> NDArray[np.int16]:
        """Language codes, [n]; -1 unknown."""
        return self._rows["language"][: len(self)]

    @property
    def deleted(self) -> Bools:
        """Posts that are gone, [n]."""
        return self._rows["deleted"][: len(self)]

    def rows(self, slots: NDArray[np.integer]) -> NDArray[np.void]:
        """Gather whole rows of slots, any shape: fields named like the properties."""
        words = self._rows.view(np.int64).reshape(-1, _ROW.itemsize // 8)
        return words.take(slots, axis=0).view(_ROW)[..., 0]

    def slots_of(self, post_ids: Ints) -> Slots:
        """Look slots up; -1 where a post is not known."""
        return self.index.slots_of(post_ids)

    def author_ids(self, slots: Slots) -> Ints:
        """Give the authors' ids [n] -> [n]; -1 where a post has none."""
        authors = self.author_slot[slots]
        if len(self._people) == 0:
            return np.full(authors.shape, -1, np.int64)
        return np.where(authors >= 0, self._people.person_id[authors], -1)

    def ensure_rows(self, rows: int) -> None:
        """Make room for at least this many posts."""
        self.counters.ensure(rows)
        self.window.ensure(rows)
        self._rows = grown(self._rows, rows)

    def add_posts(self, posts: pa.Table) -> Slots:
        """Add or update rows of POSTS_SCHEMA; gives their slots."""
        rows = np.zeros(posts.num_rows, _ROW)
        rows["author_slot"] = self._people.ensure(int_column(posts, "author_id"))
        rows["created_us"] = int_column(posts, "created")
        rows["topics"], counts = self._topic_rows(posts.column("topics"))
        rows["language"] = self._languages.encode(posts.column("language"))
        rows["deleted"] = posts.column("deleted").to_numpy()
        rows["text_stats"] = text_statistics(posts.column("text"), counts)
        slots = self.index.add(int_column(posts, "post_id"))
        self.ensure_rows(len(self))
        self._rows[slots] = rows
        return slots

    def mark_deleted(self, post_ids: Ints) -> Slots:
        """Mark posts as gone and give their slots; unknown ids pass."""
        slots = self.slots_of(post_ids)
        known = slots[slots >= 0]
        self._rows["deleted"][known] = True
        return known

    def _topic_rows(self, column: pa.ChunkedArray) -> tuple[NDArray[np.int32], Ints]:
        """Turn topic lists [n] into slots [n, 4] and their counts [n]; the first four count."""
        lists = column.combine_chunks()
        lengths = lists.value_lengths().fill_null(0).to_numpy().astype(np.int64)
        flat = self.topics_index.add(lists.flatten().to_numpy(zero_copy_only=False))
        starts = np.cumsum(lengths) - lengths
        place = np.arange(MAX_TOPICS)
        inside = place < lengths[:, None]
        if flat.shape[0] == 0:
            return np.full(inside.shape, -1, np.int32), np.zeros_like(lengths)
        at = np.where(inside, starts[:, None] + place, 0)
        return np.where(inside, flat[at], -1).astype(np.int32), inside.sum(axis=1)
