"""What the platform API reads from the workspace; external ids become ours here, and back."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from contracts.errors import NotFound
from contracts.ids import UNKNOWN_ID, Namespace
from features.workspace import Workspace


class StoredPost(NamedTuple):
    """A post as the catalog holds it."""

    author_id: int | None
    text: str
    topics: tuple[int, ...]
    language: str | None
    created_us: int
    deleted: bool


class StoredPerson(NamedTuple):
    """A person as the catalog holds one."""

    created_us: int | None
    language: str | None
    attributes: str | None


def id_of(workspace: Workspace, namespace: Namespace, external: str) -> int:
    """Give one id, UNKNOWN_ID where there is none."""
    return int(workspace.ids.lookup(namespace, [external])[0])


def known_id(workspace: Workspace, namespace: Namespace, external: str) -> int:
    """Give one id; NotFound where there is none, in the same words for everything absent."""
    found = id_of(workspace, namespace, external)
    if found == UNKNOWN_ID:
        raise nothing_here()
    return found


def nothing_here() -> NotFound:
    """Make the one answer for everything that is absent or hidden."""
    return NotFound("there is nothing here for you")


def names_of(workspace: Workspace, namespace: Namespace, ids: Collection[int]) -> Mapping[int, str]:
    """Give the external ids of some ids, which all have to be known."""
    distinct = list(dict.fromkeys(ids))
    texts = workspace.ids.external(namespace, np.array(distinct, dtype=np.int64))
    return dict(zip(distinct, texts, strict=True))


def interned(workspace: Workspace, namespace: Namespace, external: Sequence[str]) -> list[int]:
    """Give ids, made where they are new."""
    ids: list[int] = workspace.ids.intern(namespace, external).tolist()
    return ids


def stored_post(workspace: Workspace, post_id: int) -> StoredPost | None:
    """Read one post, deleted or not."""
    row = _first(workspace.catalog.posts_by_id([post_id]))
    if row is None:
        return None
    topics = tuple(row["topics"])
    created_us, deleted = row["created"], row["deleted"]
    return StoredPost(row["author_id"], row["text"], topics, row["language"], created_us, deleted)


def stored_person(workspace: Workspace, person_id: int) -> StoredPerson | None:
    """Read one person."""
    row = _first(workspace.catalog.people_by_id([person_id]))
    return None if row is None else StoredPerson(row["created"], row["language"], row["attributes"])


def _first(table: pa.Table) -> dict[str, Any] | None:
    if table.num_rows == 0:
        return None
    plain = {
        name: column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column
        for name, column in zip(table.column_names, table.columns, strict=True)
    }
    return {name: column[0].as_py() for name, column in plain.items()}
