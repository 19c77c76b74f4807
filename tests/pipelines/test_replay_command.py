"""`headwater replay`: one feed, its counterfactual, the nightly check, and what fails it."""

import json
import re
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
import typer

from contracts.clock import now_us
from contracts.errors import InvalidInput, NotFound
from contracts.ids import FeedId, UserId, feed_id_text
from contracts.query import FeedQuery
from contracts.settings import Settings
from features.workspace import Workspace
from models.bundle import Bundle
from pipelines.commands.replay import replay
from serving.bundles import champion_id
from serving.opening import open_service

FEEDS = 30


@pytest.fixture(scope="module")
def served_home(small_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with 30 recorded feeds: 20 sealed in two files, 10 hot."""
    home = Path(shutil.copytree(small_home, tmp_path_factory.mktemp("served") / "home"))
    with Workspace.open(home) as workspace:
        service = open_service(workspace, Settings(home=home).unhurried())
        people = service._cache.people.person_id[:40]
        for feed in range(1, FEEDS + 1):
            service.open(FeedQuery(FeedId(feed), UserId(int(people[feed])), now_us(), 20))
            if feed in {10, 20}:
                assert service._records.flush(60.0)
                service._keeper.seal()
        service.page(1, int(people[1]), 20, 20)
        service.close()
    return home


@pytest.fixture
def home(served_home: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(served_home, tmp_path / "home"))


def told(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


def test_the_nightly_check_finds_every_feed_identical(home, capsys):
    replay(sample=100, home=home, as_json=True)
    found = told(capsys)
    assert found["ok"] is True
    assert (found["records"], found["replayed"], found["identical"]) == (FEEDS, FEEDS, FEEDS)
    assert (found["different"], found["fallback"], found["erased"]) == (0, 0, 0)
    assert 1_000 < found["record_bytes_p50"] <= found["record_bytes_p95"] < 30_000
    assert found["examples"] == []
    replay(sample=7, seed=3, home=home)
    assert "7 of 7 identical" in capsys.readouterr().out


@pytest.mark.parametrize("column", ["features", "authors", "policy_hash", "kept_value", "digest"])
def test_one_changed_cell_of_a_hot_record_fails_loudly(home, capsys, column):
    with sqlite3.connect(home / "records" / "hot-v3.db") as database:
        (cell,) = database.execute(
            f'SELECT "{column}" FROM decisions WHERE feed_id = 25'  # noqa: S608
        ).fetchone()
        if isinstance(cell, bytes):
            changed = cell[:9] + bytes([cell[9] ^ 1]) + cell[10:]
        else:
            changed = cell.replace(cell[0], "z") if isinstance(cell, str) else cell + 1
        database.execute(f'UPDATE decisions SET "{column}" = ? WHERE feed_id = 25', (changed,))  # noqa: S608
    with pytest.raises(typer.Exit) as stop:
        replay(sample=100, home=home, as_json=True)
    assert stop.value.exit_code == 1
    found = told(capsys)
    assert (found["different"], found["identical"]) == (1, FEEDS - 1)
    assert found["examples"][0]["feed_id"] == feed_id_text(25)
    assert re.search("digest|policy", found["examples"][0]["differences"][0])
    with pytest.raises((typer.Exit, NotFound)):
        replay(feed_id_text(25), home=home)


def test_one_flipped_byte_of_a_sealed_file_fails_loudly(home, capsys):
    path = sorted((home / "records").glob("decisions-*.parquet"))[0]
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 3] ^= 1
    path.write_bytes(raw)
    with pytest.raises(typer.Exit):
        replay(sample=100, home=home, as_json=True)
    found = told(capsys)
    assert (found["different"], found["identical"]) == (10, FEEDS - 10)
    assert path.name in found["examples"][0]["differences"][0]


def test_another_bundle_under_the_same_id_fails_loudly(home, capsys):
    bundles, bundle_id = home / "bundles", str(champion_id(home))
    other = other_bundle(home)
    shutil.rmtree(bundles / bundle_id)
    shutil.copytree(bundles / other, bundles / bundle_id)
    with pytest.raises(typer.Exit):
        replay(sample=100, home=home, as_json=True)
    found = told(capsys)
    assert found["different"] == FEEDS
    assert "holds another bundle than its name says" in found["examples"][0]["differences"][0]


def other_bundle(home: Path) -> str:
    """Make a bundle whose ranker likes what this one dislikes; give its id."""
    bundle = Bundle.load(home / "bundles" / str(champion_id(home)))
    weights = {**bundle.ranker.weights, "head.weight": -bundle.ranker.weights["head.weight"]}
    ranker = replace(bundle.ranker, weights=weights)
    return replace(bundle, ranker=ranker).save(home / "bundles").bundle_id


def test_a_feed_is_shown_with_the_counterfactual_beside_it(home, capsys):
    replay(feed_id_text(1), home=home, as_json=True)
    plain = told(capsys)
    assert (plain["identical"], plain["outcome"], plain["differences"]) == (True, "identical", [])
    assert len(plain["slate"]) == 20
    assert all(0 < row["chance"] <= 1 for row in plain["slate"])
    assert [page["offset"] for page in plain["pages"]] == [20]
    assert "counterfactual" not in plain
    replay(feed_id_text(1), policy="fixed-blend", bundle=other_bundle(home), home=home)
    shown = capsys.readouterr().out
    assert "Identical: predictions, values, slate and propensities, to the bit." in shown
    assert "Counterfactual: bundle" in shown
    assert "only the recorded candidates are ordered again" in shown
    replay(feed_id_text(1), bundle=other_bundle(home), home=home, as_json=True)
    other = told(capsys)["counterfactual"]
    assert other["otherwise"][:20] != [row["post_id"] for row in plain["slate"]]
    assert {move["post_id"] for move in other["moves"]} & set(other["otherwise"][:20])
    assert "counterfactual" in other["note"]


def test_the_same_bundle_and_policy_move_nothing(home, capsys):
    replay(feed_id_text(2), bundle=str(champion_id(home)), home=home, as_json=True)
    assert told(capsys)["counterfactual"]["moves"] == []


def test_bad_requests_are_said(home, tmp_path):
    with pytest.raises(InvalidInput, match="nothing to replay"):
        replay(home=home)
    with pytest.raises(InvalidInput, match="takes no feed"):
        replay(feed_id_text(1), sample=5, home=home)
    with pytest.raises(InvalidInput, match="16 lower-case hexadecimal"):
        replay("x", home=home)
    with pytest.raises(NotFound, match="no record of the feed 00000000000003e7"):
        replay(feed_id_text(999), home=home)
    with pytest.raises(NotFound, match="no decision records"):
        replay(sample=5, home=tmp_path)
    with pytest.raises(NotFound, match="bundle nothing is not in"):
        replay(feed_id_text(1), bundle="nothing", home=home)
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
