"""Feast over the materialised views: definitions, registry, historical reads, online store.

The only file that knows Feast. It is the reference that our own join and cache are compared with,
and the door for others' tools; the request path reads `features.caches` and never comes here.
Feast's default offline store (Dask) drops rows, so ours is DuckDB, and rows out are checked.
"""

from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import numpy as np
import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Float64

from contracts.errors import InvalidInput, NotFound, PipelineError
from contracts.settings import load_settings
from features.materialize import snapshot_path
from features.slots import Float64s, Ints
from features.views import VIEWS, View
from features.workspace import Workspace

_PROJECT: Final = "headwater"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_BEGINNING: Final = datetime(1700, 1, 1, tzinfo=UTC)
"""Before any post: books and films are older than the epoch."""


class FeastStore:
    """The Feast project of one home folder; online in SQLite there, or in Redis by URL."""

    def __init__(
        self, home: Path, *, online_url: str | None = None, views: Sequence[View] = VIEWS
    ) -> None:
        """NotFound where nothing has been materialised."""
        missing = [v.name for v in views if not snapshot_path(home, v).exists()]
        if missing:
            msg = f"{home} holds no snapshots of {', '.join(missing)}"
            raise NotFound(msg, hint="run `headwater features materialize` first")
        root = (home / "features").resolve()
        self._store = FeatureStore(
            config=RepoConfig(
                project=_PROJECT,
                provider="local",
                registry=str(root / "feast_registry.db"),
                online_store=_online_config(root, online_url),
                offline_store={"type": "duckdb"},
                entity_key_serialization_version=3,
                repo_path=root,
            )
        )
        self._entities = [_entity(view) for view in views]
        self._views = [_feast_view(home, view) for view in views]

    def apply(self) -> None:
        """Register the entities and views; nothing is scanned for definitions."""
        self._store.apply([*self._entities, *self._views])

    def materialize(self, end_us: int) -> None:
        """Write each entity's newest row up to a time to the online store.

        Feast reports its progress on standard output, which here belongs to the caller.
        """
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            self._store.materialize(_BEGINNING, _EPOCH + timedelta(microseconds=end_us + 1))

    def historical(self, view: View, entity_ids: Ints, times_us: Ints) -> Float64s:
        """Join labels [n] to what was known of a view then: [n, columns], NaN where nothing was.

        Rows created after a label's time do not count. PipelineError where Feast loses rows.
        """
        labels = pd.DataFrame(
            {
                view.key: entity_ids,
                "event_timestamp": pd.to_datetime(times_us, unit="us", utc=True),
                "label_row": np.arange(len(entity_ids)),
            }
        )
        job = self._store.get_historical_features(
            entity_df=labels,
            features=[f"{view.name}:{column}" for column in view.columns],
            filter_by_created_timestamp=True,
        )
        joined = job.to_df()
        if sorted(joined["label_row"]) != list(range(len(entity_ids))):
            msg = f"{len(labels)} labels went into Feast's join, {len(joined)} rows came out"
            raise PipelineError(msg)
        ordered = joined.sort_values("label_row")
        values: Float64s = ordered[list(view.columns)].to_numpy(np.float64)
        return values

    def online_read(self, view: View, entity_ids: Ints) -> Float64s:
        """Read the online store: ids [n] -> [n, columns], NaN where it has no row."""
        response = self._store.get_online_features(
            features=[f"{view.name}:{column}" for column in view.columns],
            entity_rows={view.key: entity_ids.tolist()},
        ).to_dict()
        columns: list[list[Any]] = [response[column] for column in view.columns]
        return np.array(columns, np.float64).T.reshape(-1, len(view.columns))


def open_store(workspace: Workspace) -> FeastStore:
    """Open the store of a workspace, online where the settings say."""
    return FeastStore(workspace.home, online_url=load_settings().online_store_url)


def _entity(view: View) -> Entity:
    return Entity(name=view.key, join_keys=[view.key], value_type=ValueType.INT64)


def _feast_view(home: Path, view: View) -> FeatureView:
    source = FileSource(
        name=f"{view.name}_snapshots",
        path=str(snapshot_path(home, view).resolve()),
        timestamp_field="event_timestamp",
        created_timestamp_column="created_timestamp",
    )
    return FeatureView(
        name=view.name,
        entities=[_entity(view)],
        schema=[Field(name=column, dtype=Float64) for column in view.columns],
        source=source,
        ttl=view.ttl,
        online=True,
    )


def _online_config(root: Path, url: str | None) -> dict[str, str]:
    if url is None:
        return {"type": "sqlite", "path": str(root / "feast_online.db")}
    parts = urlsplit(url)
    try:
        port = parts.port or 6379
    except ValueError:
        port = 0
    named = [unquote(part) for part in (parts.username, parts.password) if part]
    if (
        parts.scheme not in ("redis", "rediss")
        or parts.hostname is None
        or not port
        or any("," in part for part in named)  # Feast parts its options by commas
    ):
        # Without the URL itself, which may hold a password.
        msg = (
            "the online store is a URL like redis://host:6379/0, without commas; got one of "
            f"scheme {parts.scheme!r} and host {parts.hostname!r}"
        )
        raise InvalidInput(msg, hint="set HEADWATER_ONLINE_STORE_URL")
    options = [f"{parts.hostname}:{port}"]
    if parts.path.strip("/"):
        options.append(f"db={parts.path.strip('/')}")
    if parts.username:
        options.append(f"username={unquote(parts.username)}")
    if parts.password:
        options.append(f"password={unquote(parts.password)}")
    if parts.scheme == "rediss":
        options.append("ssl=true")
    return {"type": "redis", "connection_string": ",".join(options)}
