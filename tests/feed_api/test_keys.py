"""API keys: shown once, stored as a hash, refused within seconds of being revoked."""

import asyncio
import json
from time import monotonic

import pytest
from sqlalchemy import create_engine

from contracts.clock import now_us
from contracts.errors import InvalidInput, NotFound
from feed_api.database import home_url, open_database
from feed_api.keys import create_key, list_keys, revoke_key
from pipelines.cli import main

FEED = "/v1/platform/feed"


@pytest.fixture
def engine(tmp_path):
    opened = open_database(home_url(tmp_path))
    yield opened
    opened.dispose()


def test_no_part_of_a_secret_is_stored(engine, tmp_path):
    made = create_key(engine, "a back end", ["feed:read", "rank"], 5)
    secret = made.token[20:]
    rows = list_keys(engine)
    assert rows == [(made.key_id, "a back end", ("feed:read", "rank"), 5, None)]
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert made.key_id.encode() in stored
    assert secret.encode() not in stored


@pytest.mark.parametrize(
    ("name", "scopes", "says"),
    [
        ("n", ["feed:reed"], "scopes are feed:read, rank, .*; got feed:reed"),
        ("n", [], "at least one scope of feed:read"),
        ("", ["rank"], "1 to 64 letters"),
        ("n" * 65, ["rank"], "1 to 64 letters"),
        ("a\nb", ["rank"], "1 to 64 letters"),
    ],
)
def test_keys_that_make_no_sense_are_not_made(engine, name, scopes, says):
    with pytest.raises(InvalidInput, match=says):
        create_key(engine, name, scopes, 5)
    assert list_keys(engine) == []


def test_a_key_is_revoked_once_and_a_missing_one_is_told(engine):
    made = create_key(engine, "n", ["rank"], 5)
    revoke_key(engine, made.key_id, 7)
    revoke_key(engine, made.key_id, 9)
    assert list_keys(engine)[0].revoked_us == 7
    with pytest.raises(NotFound, match="there is no key 'abc'"):
        revoke_key(engine, "abc", 9)


def test_a_revoked_key_is_refused_within_five_seconds_and_a_new_one_taken_soon(api):
    engine = open_database(home_url(api.settings.home))

    async def watch(client):
        client.headers.pop("authorization")

        async def status(token: str) -> int:
            headers = {"authorization": f"Bearer {token}"}
            return (await client.get(FEED, params={"viewer": "ann"}, headers=headers)).status_code

        made = create_key(engine, "late", ["feed:read"], now_us())
        # A key nobody knows makes the table be read again, where it was not read just now: a
        # quarter of a second, and the reading. Asks are counted, not what a busy machine takes.
        refused = 0
        while await status(made.token) != 200:
            refused += 1
            await asyncio.sleep(0.05)
        revoke_key(engine, made.key_id, now_us())
        start = last_taken = monotonic()
        asked = monotonic()
        while await status(made.token) == 200:
            last_taken = asked
            await asyncio.sleep(0.05)
            asked = monotonic()
        return refused, last_taken - start

    refused, seconds = api.run(watch)
    engine.dispose()
    assert refused < 30
    assert seconds < 5


def test_keys_that_can_not_be_read_let_nobody_in(api):
    engine = create_engine(home_url(api.settings.home))
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE api_keys RENAME TO elsewhere")

    async def wait(client):
        await asyncio.sleep(5)
        return await client.get(FEED, params={"viewer": "ann"}), await client.get("/readyz")

    refused, ready = api.run(wait)
    assert (refused.status_code, refused.json()["type"]) == (503, "unavailable")
    assert (ready.status_code, ready.json()["checks"]["keys"]) == (503, False)
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO api_keys")
    engine.dispose()
    api.ask("GET", FEED, params={"viewer": "ann"})  # may share a reading that began before
    assert api.ask("GET", FEED, params={"viewer": "ann"}).status_code == 200
    assert "keys_unreadable" in api.log_text()


def test_the_commands_make_list_and_revoke(tmp_path, capsys):
    def run(*arguments: str) -> dict:
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--home", str(tmp_path), "--json"])
        assert ended.value.code == 0
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    scopes = ["--scope", "feed:read", "--scope", "events:write"]
    made = run("keys", "create", "--name", "shop", *scopes)
    assert made["key"].startswith(f"hw_{made['key_id']}_")
    (row,) = run("keys", "list")["keys"]
    assert (row["name"], row["scopes"]) == ("shop", ["events:write", "feed:read"])
    run("keys", "revoke", made["key_id"])
    assert run("keys", "list")["keys"][0]["revoked_us"] > 0


def test_the_database_waits_for_the_disk_and_for_others(engine):
    with engine.connect() as connection:
        pragmas = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "busy_timeout")
        ]
    assert pragmas == ["wal", 2, 5000]
