"""The catalog: people, posts, follows and blocks as they are now, in the log's database."""

import json
from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from contracts.errors import InvalidInput
from contracts.ids import Namespace
from contracts.tables import BLOCKS_SCHEMA, FOLLOWS_SCHEMA, PEOPLE_SCHEMA, POSTS_SCHEMA
from features.identity import IdMap
from features.sqlite_rows import Words, fitted, stored_columns, table_of
from features.storage import Database

Ids = NDArray[np.int64]

_WORDS: Final = Words("the table lacks", "it should have", "the table's columns do not fit")
_POST_COLUMNS: Final = ", ".join(f"p.{name}" for name in POSTS_SCHEMA.names)


def _upsert(table: str, names: Sequence[str]) -> str:
    """Say in SQL that rows with these columns, the key first, take the place of older ones.

    When something first became known is not changed by what is said of it later.
    """
    changes = ", ".join(
        f"known = min({table}.known, excluded.known)"
        if name == "known"
        else f"{name} = excluded.{name}"
        for name in names[1:]
    )
    return (
        f"INSERT INTO {table} ({', '.join(names)}) "  # noqa: S608 - names of our own schema
        f"VALUES ({', '.join('?' * len(names))}) ON CONFLICT ({names[0]}) DO UPDATE SET {changes}"
    )


_UPSERT_PEOPLE: Final = _upsert("people", PEOPLE_SCHEMA.names)
_UPSERT_POSTS: Final = f"{_upsert('posts', POSTS_SCHEMA.names)}, deleted_at = NULL"
_REFRESH_POSTS: Final = f"{_UPSERT_POSTS} WHERE posts.deleted = 0"
_BARE_POSTS: Final = (
    "INSERT INTO posts (post_id, text, topics, created, known, deleted) "
    "VALUES (?, '', x'', ?, ?, 0) ON CONFLICT (post_id) DO UPDATE SET "
    "created = min(created, excluded.created), known = min(known, excluded.known)"
)


class Catalog:
    """Rows of the four entity tables; each method is one transaction, or joins the open one."""

    def __init__(self, database: Database, ids: IdMap) -> None:
        self._database = database
        self._ids = ids

    def upsert_people(self, people: pa.Table) -> None:
        """Write PEOPLE_SCHEMA rows, over what was there."""
        self._write(_UPSERT_PEOPLE, _columns(people, PEOPLE_SCHEMA))

    def upsert_posts(self, posts: pa.Table, *, restore: bool = True) -> None:
        """Write POSTS_SCHEMA rows, over what was there; with `restore` over deleted posts too."""
        self._write(_UPSERT_POSTS if restore else _REFRESH_POSTS, _columns(posts, POSTS_SCHEMA))

    def ensure_posts(self, post_ids: Ids, created_us: Ids) -> None:
        """Make posts of which only ids are known; the earliest of the times given stays."""
        times = _plain_ids(created_us)
        self._write(_BARE_POSTS, [_plain_ids(post_ids), times, times])

    def delete_posts(self, post_ids: Ids | Sequence[int], at_us: int) -> None:
        """Mark posts deleted; their rows stay, so that history can still name them."""
        self._write(
            "UPDATE posts SET deleted = 1, deleted_at = ? WHERE post_id = ? AND deleted = 0",
            [[at_us] * len(post_ids), _plain_ids(post_ids)],
        )

    def erase_people(self, person_ids: Ids | Sequence[int]) -> None:
        """Remove what is said about people: their row, follows and blocks, both ways."""
        ids = _plain_ids(person_ids)
        with self._database.write():
            self._write("DELETE FROM people WHERE person_id = ?", [ids])
            self._write("DELETE FROM follows WHERE follower_id = ? OR followee_id = ?", [ids, ids])
            self._write("DELETE FROM blocks WHERE blocker_id = ? OR blocked_id = ?", [ids, ids])

    def set_follows(self, follows: pa.Table) -> int:
        """Write FOLLOWS_SCHEMA rows and give the new ones; one that is there keeps its `since`."""
        return self._write(
            "INSERT OR IGNORE INTO follows VALUES (?, ?, ?)", _columns(follows, FOLLOWS_SCHEMA)
        )

    def remove_follows(
        self, follower_ids: Ids | Sequence[int], followee_ids: Ids | Sequence[int]
    ) -> None:
        """Remove follows, pair by pair; absent ones are no error."""
        self._write(
            "DELETE FROM follows WHERE follower_id = ? AND followee_id = ?",
            [_plain_ids(follower_ids), _plain_ids(followee_ids)],
        )

    def set_blocks(self, blocks: pa.Table) -> None:
        """Write BLOCKS_SCHEMA rows; one that is there keeps its first `since`."""
        columns = _columns(blocks, BLOCKS_SCHEMA)
        _check_kinds(columns[2])
        self._write("INSERT OR IGNORE INTO blocks VALUES (?, ?, ?, ?)", columns)

    def remove_blocks(
        self, blocker_ids: Ids | Sequence[int], blocked_ids: Ids | Sequence[int], kind: str
    ) -> None:
        """Remove blocks or mutes, pair by pair; absent ones are no error."""
        _check_kinds([kind])
        self._write(
            "DELETE FROM blocks WHERE blocker_id = ? AND blocked_id = ? AND kind = ?",
            [_plain_ids(blocker_ids), _plain_ids(blocked_ids), [kind] * len(blocker_ids)],
        )

    def people(self) -> pa.Table:
        """Give all people, by id."""
        return self._read("SELECT * FROM people ORDER BY person_id", (), PEOPLE_SCHEMA)

    def people_by_id(self, person_ids: Ids | Sequence[int]) -> pa.Table:
        """Give people in the order asked for; unknown ids are left out."""
        query = (
            "SELECT t.* FROM json_each(?) j JOIN people t ON t.person_id = j.value ORDER BY j.key"
        )
        return self._read(query, (json.dumps(_plain_ids(person_ids)),), PEOPLE_SCHEMA)

    def posts(self, *, include_deleted: bool = True) -> pa.Table:
        """Give all posts, by id."""
        where = "" if include_deleted else "WHERE p.deleted = 0"
        query = f"SELECT {_POST_COLUMNS} FROM posts p {where} ORDER BY p.post_id"  # noqa: S608 - ours
        return self._read(query, (), POSTS_SCHEMA)

    def posts_by_id(self, post_ids: Ids | Sequence[int]) -> pa.Table:
        """Give posts in the order asked for, deleted ones too; unknown ids are left out."""
        query = (
            f"SELECT {_POST_COLUMNS} FROM json_each(?) j "  # noqa: S608 - names of our schema
            "JOIN posts p ON p.post_id = j.value ORDER BY j.key"
        )
        return self._read(query, (json.dumps(_plain_ids(post_ids)),), POSTS_SCHEMA)

    def follows(self) -> pa.Table:
        """Give all follows, by follower."""
        query = "SELECT * FROM follows ORDER BY follower_id, followee_id"
        return self._read(query, (), FOLLOWS_SCHEMA)

    def blocks(self) -> pa.Table:
        """Give all blocks and mutes, by blocker."""
        query = "SELECT * FROM blocks ORDER BY blocker_id, blocked_id, kind"
        return self._read(query, (), BLOCKS_SCHEMA)

    def has_follow(self, follower_id: int, followee_id: int) -> bool:
        """Tell whether one person follows another now."""
        query = "SELECT 1 FROM follows WHERE follower_id = ? AND followee_id = ?"
        return self._holds(query, (follower_id, followee_id))

    def has_block(self, blocker_id: int, blocked_id: int, kind: str) -> bool:
        """Tell whether one person blocks or mutes another now."""
        query = "SELECT 1 FROM blocks WHERE blocker_id = ? AND blocked_id = ? AND kind = ?"
        return self._holds(query, (blocker_id, blocked_id, kind))

    def topics(self) -> tuple[Ids, list[str]]:
        """Give every topic's id and name."""
        return self._ids.all(Namespace.TOPIC)

    def counts(self) -> dict[str, int]:
        """Give the number of rows of each table; posts without the deleted ones."""
        queries = {
            "people": "SELECT COUNT(*) FROM people",
            "posts": "SELECT COUNT(*) FROM posts WHERE deleted = 0",
            "follows": "SELECT COUNT(*) FROM follows",
            "blocks": "SELECT COUNT(*) FROM blocks",
        }
        with self._database.snapshot() as connection:
            return {name: connection.execute(q).fetchone()[0] for name, q in queries.items()}

    def _write(self, statement: str, columns: Sequence[Sequence[object]]) -> int:
        with self._database.write() as connection:
            return connection.executemany(statement, zip(*columns, strict=True)).rowcount

    def _holds(self, query: str, values: tuple[object, ...]) -> bool:
        with self._database.snapshot() as connection:
            return connection.execute(query, values).fetchone() is not None

    def _read(self, query: str, values: tuple[object, ...], schema: pa.Schema) -> pa.Table:
        with self._database.snapshot() as connection:
            return table_of(connection.execute(query, values).fetchall(), schema)


def _columns(table: pa.Table, schema: pa.Schema) -> list[list[object]]:
    """Bring a table to a schema and turn its columns into what SQLite stores."""
    return stored_columns(fitted(table, schema, _WORDS))


def _plain_ids(ids: Ids | Sequence[int]) -> list[object]:
    return list(np.asarray(ids, dtype=np.int64).tolist())


def _check_kinds(kinds: Sequence[object]) -> None:
    wrong = {str(kind) for kind in kinds} - {"block", "mute"}
    if wrong:
        raise InvalidInput(f"the kind of a block is block or mute, got {', '.join(sorted(wrong))}")
