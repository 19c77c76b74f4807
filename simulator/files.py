"""The world's four files, in the formats that `headwater ingest` reads."""

from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from contracts.clock import to_datetime
from contracts.events import UTC_US
from simulator.events import external
from simulator.population import Follows, People, Posts
from simulator.text import LANGUAGES
from simulator.vocabulary import topic_names


def write_world(
    folder: Path, people: People, posts: Posts, follows: Follows, events: pa.Table
) -> list[Path]:
    """Write the four files into a folder, made where it is absent; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [
        folder / name for name in ("people.csv", "posts.jsonl", "follows.csv", "events.parquet")
    ]
    pacsv.write_csv(_people_table(people), paths[0])
    paths[1].write_bytes(_post_lines(posts))
    pacsv.write_csv(_follows_table(follows), paths[2])
    pq.write_table(events, paths[3], compression="zstd")
    return paths


def _people_table(people: People) -> pa.Table:
    return pa.table(
        {
            "person_id": [f"p{row}" for row in range(len(people))],
            "created": pa.array(people.created_us, UTC_US),
            "language": pa.array(LANGUAGES).take(pa.array(people.language)),
        }
    )


def _follows_table(follows: Follows) -> pa.Table:
    return pa.table(
        {
            "follower_id": external("p", follows.follower),
            "followee_id": external("p", follows.followee),
            "since": pa.array(follows.since_us, UTC_US),
        }
    )


def _post_lines(posts: Posts) -> bytes:
    lines = []
    for row, text in enumerate(posts.text):
        topics = [topic_names()[posts.primary[row]]]
        if posts.secondary[row] >= 0:
            topics.append(topic_names()[posts.secondary[row]])
        post = {
            "post_id": f"post{row}",
            "author_id": f"p{posts.author[row]}",
            "text": text,
            "topics": topics,
            "created": to_datetime(int(posts.created_us[row])),
            "language": LANGUAGES[posts.language[row]],
        }
        lines.append(orjson.dumps(post))
    return b"\n".join(lines) + b"\n"
