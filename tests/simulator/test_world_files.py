"""The world's files: readable by plain tools, consistent, in the documented form."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from contracts.events import EVENT_TYPE_BY_WORD, NEEDS_TARGET
from simulator.vocabulary import topic_names, topics
from simulator.world import World


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "files"
    World.generate(3, people=200, posts=600, days=7).write(folder)
    return folder


def test_the_four_files_are_there_and_agree(folder: Path) -> None:
    people = pacsv.read_csv(folder / "people.csv")
    posts = [json.loads(line) for line in (folder / "posts.jsonl").read_text().splitlines()]
    follows = pacsv.read_csv(folder / "follows.csv")
    events = pq.read_table(folder / "events.parquet")
    names = set(people["person_id"].to_pylist())
    assert len(names) == 200
    assert len({post["post_id"] for post in posts}) == 600
    assert {post["author_id"] for post in posts} <= names
    assert set(follows["follower_id"].to_pylist()) <= names
    assert set(events["viewer_id"].to_pylist()) <= names
    assert set(events["post_id"].to_pylist()) <= {post["post_id"] for post in posts}


def test_events_use_the_closed_list_and_name_a_target_where_one_is_needed(folder: Path) -> None:
    events = pq.read_table(folder / "events.parquet")
    words = set(events["type"].to_pylist())
    assert {"impression", "view", "dwell", "click", "like", "comment", "hide"} <= words
    assert words <= EVENT_TYPE_BY_WORD.keys()
    targeted = pc.is_valid(events["target_id"])
    needing = pc.is_in(events["type"], value_set=pa.array([t.word for t in NEEDS_TARGET]))
    assert targeted.equals(needing)
    assert pc.any(targeted).as_py()


def test_times_are_ordered_and_never_known_before_they_happen(folder: Path) -> None:
    events = pq.read_table(folder / "events.parquet")
    times = events["event_time"].cast("int64").to_numpy()
    assert (times[1:] >= times[:-1]).all()
    assert pc.all(pc.less_equal(events["event_time"], events["known_time"])).as_py()


def test_texts_speak_of_their_topics(folder: Path) -> None:
    posts = [json.loads(line) for line in (folder / "posts.jsonl").read_text().splitlines()]
    speaking = 0
    for post in posts:
        words = [w for t in post["topics"] for w in (*topics()[t].things, *topics()[t].doings, t)]
        speaking += any(word.lower() in post["text"].lower() for word in words)
    assert speaking == len(posts)
    assert len({post["text"] for post in posts}) > 0.9 * len(posts)


def test_the_vocabulary_is_whole() -> None:
    assert len(topic_names()) == 24
    for name, words in topics().items():
        assert len(words.things) >= 13, name
        assert len(words.doings) >= 4, name
        assert "" not in (*words.things, *words.doings), name
