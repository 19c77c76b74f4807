"""HetRec 2011 Last.fm: friend links, dated tag assignments, artists with names and tags.

A friend link is a follow; the file has both directions. Tags that a person gives to an artist in
one month are one like, at the first of their dates: days are nearly all the 1st, so the split is by
whole months. An artist is a post: its text is the name and its most used tags, its topics the tags
it bears among the 100 most used, at most five; created at its first tag.

A tag assignment is also the action to be predicted, so only tags given before the first cut of the
split describe an artist; one first tagged after it is known by its name alone.

Dates before 2002, when Last.fm began, are absurd and go to the reject file. Listening counts bear
no date and are not read.
"""

from collections import Counter, defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from contracts.clock import now_us, to_us
from pipelines.ingestion.adapters.checksums import check_files
from pipelines.ingestion.adapters.movielens import first_times
from pipelines.ingestion.fields import nullable_times
from pipelines.ingestion.rows import Kind, RowBatch, Source
from pipelines.ingestion.sources import Dataset, batch_of
from training.split import SplitConfig, cuts_in_time

FILES: Final = ["artists.dat", "tags.dat", "user_friends.dat", "user_taggedartists.dat"]

_FIRST_YEAR: Final = 2002
_TOPIC_TAGS: Final = 100
_TOPICS_EACH: Final = 5
_TAGS_IN_TEXT: Final = 10


def open_dataset(folder: Path) -> Dataset:
    """Open the four files; NotFound or InvalidInput where one is missing or differs."""
    notes = check_files(folder, FILES)
    tagged = np.loadtxt(folder / "user_taggedartists.dat", dtype=np.int64, skiprows=1)
    absurd = (tagged[:, 5] < _FIRST_YEAR) | (_times(tagged) > now_us())
    good = tagged[~absurd]
    events = _events(tagged, absurd)
    likes = events.columns["event_time"].cast(pa.int64()).to_numpy()
    likes = likes[likes >= to_us(datetime(_FIRST_YEAR, 1, 1, tzinfo=UTC))]
    first_cut = cuts_in_time(likes, "month", SplitConfig())[0]
    return Dataset(
        name="lastfm-social",
        adapter="lastfm",
        sources=[
            Source(Kind.POSTS, "artists.dat", [_posts(folder, good, first_cut)]),
            Source(Kind.FOLLOWS, "user_friends.dat", [_follows(folder)]),
            Source(Kind.EVENTS, "user_taggedartists.dat", [events]),
        ],
        split="month",
        licence="HetRec 2011: non-commercial use",
        notes=[
            "only tags given before the split's first cut describe an artist (see the adapter)",
            *notes,
        ],
    )


def _times(tagged: np.ndarray) -> np.ndarray:
    """Turn columns day, month, year of [n, 6] into microseconds [n]."""
    months = ((tagged[:, 5] - 1970) * 12 + tagged[:, 4] - 1).astype("datetime64[M]")
    days = months.astype("datetime64[D]") + (tagged[:, 3] - 1)
    times: np.ndarray = days.astype("datetime64[us]").astype(np.int64)
    return times


def _follows(folder: Path) -> RowBatch:
    links = np.loadtxt(folder / "user_friends.dat", dtype=np.int64, skiprows=1)
    columns = {
        "follower_id": pa.array(links[:, 0]).cast(pa.string()),
        "followee_id": pa.array(links[:, 1]).cast(pa.string()),
    }
    return batch_of(columns, range(2, len(links) + 2))


def _events(tagged: np.ndarray, absurd: np.ndarray) -> RowBatch:
    """Keep the earliest row of each (person, artist, month); absurd rows stay, to be rejected."""
    times = _times(tagged)
    month = tagged[:, 5] * 12 + tagged[:, 4]
    order = np.lexsort((np.arange(len(tagged)), times, month, tagged[:, 1], tagged[:, 0]))
    keys = np.stack((tagged[:, 0], tagged[:, 1], month), axis=1)[order]
    first = np.r_[True, (keys[1:] != keys[:-1]).any(axis=1)]
    rows = order[first | absurd[order]]
    columns = {
        "viewer_id": pa.array(tagged[rows, 0]).cast(pa.string()),
        "post_id": pa.array(tagged[rows, 1]).cast(pa.string()),
        "type": pa.array(["like"] * len(rows)),
        "event_time": nullable_times(times[rows]),
    }
    return batch_of(columns, (rows + 2).tolist())


def _posts(folder: Path, tagged: np.ndarray, cut_us: int) -> RowBatch:
    """Describe each artist by its name and the tags given before the cut."""
    names = _table(folder / "artists.dat", "utf-8")
    tags = _table(folder / "tags.dat", "latin-1")
    counts: dict[int, Counter[int]] = defaultdict(Counter)
    early = tagged[_times(tagged) < cut_us]
    for artist, tag in early[:, 1:3].tolist():
        counts[artist][tag] += 1
    common = {tag for tag, _ in Counter(early[:, 2].tolist()).most_common(_TOPIC_TAGS)}
    # Artists without a name in artists.dat are tagged all the same: their tags are their text.
    artists = list(dict.fromkeys([*map(int, names), *sorted(set(tagged[:, 1].tolist()))]))
    row_of = np.full(max(artists) + 1, -1, dtype=np.int64)
    row_of[artists] = np.arange(len(artists))
    first = first_times(row_of[tagged[:, 1]], _times(tagged), len(artists))
    texts, topics = [], []
    for artist in artists:
        ranked = [tag for tag, _ in counts[artist].most_common()]
        words = [tags[str(tag)] for tag in ranked[:_TAGS_IN_TEXT]]
        texts.append(". ".join(filter(None, [names.get(str(artist), ""), ", ".join(words)])))
        topics.append([tags[str(tag)] for tag in ranked if tag in common][:_TOPICS_EACH])
    columns = {
        "post_id": [str(artist) for artist in artists],
        "text": texts,
        "topics": pa.array(topics, pa.list_(pa.string())),
        "created": nullable_times(first),
    }
    return batch_of(columns, range(2, len(artists) + 2))


def _table(path: Path, encoding: str) -> dict[str, str]:
    """Read id -> name, the first two columns."""
    lines = path.read_text(encoding=encoding).split("\n")[1:]
    pairs = (line.rstrip("\r").split("\t")[:2] for line in lines if line.strip())
    return {pair[0]: pair[1] for pair in pairs}
