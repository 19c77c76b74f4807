"""`headwater keys`: make, list and revoke keys of the platform API."""

from pathlib import Path
from typing import Annotated

import typer

from contracts.clock import now_us, to_datetime
from contracts.errors import NotFound
from feed_api import keys
from feed_api.database import home_url, open_database
from feed_api.keys import Scope
from pipelines.console import AsJson, Home, Reporter, home_of

_SCOPES = ", ".join(scope.value for scope in Scope)


def create(
    name: Annotated[str, typer.Option(help="What the key is for; it shows in lists and logs.")],
    scope: Annotated[list[str], typer.Option(help=f"May be given again: {_SCOPES}.")],
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Make an API key. It is shown once: only a hash of it is stored."""
    report = Reporter(as_json)
    engine = open_database(_url(home, make=True))
    made = keys.create_key(engine, name, scope, now_us())
    engine.dispose()
    report.say(made.token, style="bold")
    report.say("Keep it: it can not be shown again.")
    report.finish({"key_id": made.key_id, "name": name, "scopes": scope, "key": made.token})


def revoke(
    key_id: Annotated[str, typer.Argument(help="The key's id, as `headwater keys list` shows it.")],
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Revoke an API key for good; running servers refuse it within five seconds."""
    report = Reporter(as_json)
    engine = open_database(_url(home))
    keys.revoke_key(engine, key_id, now_us())
    engine.dispose()
    report.say(f"Key {key_id} is revoked.")
    report.finish({"key_id": key_id, "revoked": True})


def list_keys(home: Home = None, as_json: AsJson = False) -> None:
    """List API keys and what they may do; never what lets someone in."""
    report = Reporter(as_json)
    engine = open_database(_url(home))
    rows = keys.list_keys(engine)
    engine.dispose()
    shown = [
        (
            row.key_id,
            row.name,
            ", ".join(row.scopes),
            to_datetime(row.created_us).isoformat(timespec="seconds"),
            "" if row.revoked_us is None else to_datetime(row.revoked_us).isoformat("T", "seconds"),
        )
        for row in rows
    ]
    report.table("API keys", ("id", "name", "scopes", "made", "revoked"), shown)
    report.finish({"keys": [row._asdict() for row in rows]})


def _url(home: Path | None, *, make: bool = False) -> str:
    """Give the keys' database; NotFound where there is no home, unless it may be made."""
    folder = home_of(home)
    if not make and not folder.is_dir():
        hint = "name the folder with --home; `headwater keys create` makes one"
        raise NotFound(f"there is no folder {folder}", hint=hint)
    folder.mkdir(parents=True, exist_ok=True)
    return home_url(folder)
