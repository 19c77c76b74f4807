"""The doctor over home folders, broken for real: the first finding names the cause; the command."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from contracts.clock import DAY_US, now_us, to_datetime
from contracts.events import EVENT_SCHEMA, EventType
from contracts.settings import Settings
from features.workspace import Workspace
from feed_api import keys
from feed_api.database import home_url, open_database
from models.bundle import read_manifest
from models.manifest import MANIFEST_FILE
from pipelines.cli import main
from pipelines.doctor import observe_home, observe_server
from pipelines.server_process import free_port, serving
from serving.bundles import CHAMPION_FILE, champion_folder
from serving.watching.checks import CHECKS
from serving.watching.doctor import Finding, Observed, Status, binding, diagnose


def first(observed: Observed) -> Finding:
    found = binding(diagnose(observed, CHECKS))
    assert found is not None, "nothing binds"
    assert found.advice
    return found


def shown(workspace: Workspace, count: int, at: int) -> pa.Table:
    """Impressions of one post."""
    post = workspace.catalog.posts()["post_id"][0].as_py()
    viewer = workspace.catalog.people()["person_id"][0].as_py()
    row = {
        "type": int(EventType.IMPRESSION), "viewer_id": viewer, "post_id": post, "target_id": None,
        "event_time": to_datetime(at), "known_time": to_datetime(now_us()),
        "known_assumed": False, "value": None, "feed_id": None, "position": None,
    }  # fmt: skip
    made = [{"event_id": 10**15 + number, **row} for number in range(count)]
    return pa.Table.from_pylist(made, schema=EVENT_SCHEMA)


def champion(home: Path) -> Path:
    folder = champion_folder(home)
    assert folder is not None
    return folder


def test_no_bundle(small_home_copy: Path) -> None:
    (small_home_copy / "bundles" / CHAMPION_FILE).unlink()
    assert first(observe_home(small_home_copy, Settings())).name == "bundle"


def test_a_bundle_of_which_a_byte_has_changed(small_home_copy: Path) -> None:
    path = champion(small_home_copy) / "deep.faiss"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    found = first(observe_home(small_home_copy, Settings()))
    assert (found.name, found.status) == ("bundle_fit", Status.BROKEN)
    assert "deep.faiss" in found.sentence


def test_a_bundle_of_other_features(small_home_copy: Path) -> None:
    change_manifest(small_home_copy, feature_hash="of another code")
    found = first(observe_home(small_home_copy, Settings()))
    assert found.name == "bundle_fit"
    assert "trained on other features" in found.sentence


def test_an_old_bundle(small_home_copy: Path) -> None:
    folder = champion(small_home_copy)
    data = read_manifest(folder).data
    old = data.model_copy(update={"last_us": data.last_us - 60 * DAY_US})
    change_manifest(small_home_copy, data=old)
    found = first(observe_home(small_home_copy, Settings()))
    assert (found.name, found.status) == ("bundle_age", Status.BROKEN)
    assert "61 days" in found.sentence or "62 days" in found.sentence


def change_manifest(home: Path, **changes: Any) -> None:
    folder = champion(home)
    text = read_manifest(folder).model_copy(update=changes).model_dump_json()
    (folder / MANIFEST_FILE).write_text(text)


def test_events_from_the_future(small_home_copy: Path) -> None:
    with Workspace.open(small_home_copy) as workspace:
        workspace.log.append(shown(workspace, 1, now_us() + 2 * DAY_US))
    found = first(observe_home(small_home_copy, Settings()))
    assert found.name == "clock_ahead"
    assert "48.0 hours in the future" in found.sentence


def test_archived_data_under_the_clock_of_today(small_home: Path) -> None:
    late = Settings(clock_offset_seconds=60 * 86_400)
    assert first(observe_home(small_home, late)).name == "clock_behind"


def test_a_checkpoint_far_behind(small_home_copy: Path) -> None:
    with Workspace.open(small_home_copy) as workspace:
        workspace.log.append(shown(workspace, 8000, now_us()))
    found = first(observe_home(small_home_copy, Settings()))
    assert found.name == "checkpoint"
    assert "8,000 events" in found.sentence


@pytest.mark.parametrize("part", ["layout", "features"])
def test_a_checkpoint_of_another_version(part: str, small_home_copy: Path) -> None:
    path = small_home_copy / "features" / "checkpoint.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), part: "other"}))
    assert first(observe_home(small_home_copy, Settings())).name == "checkpoint"


def test_a_checkpoint_that_is_gone(small_home_copy: Path) -> None:
    (small_home_copy / "features" / "checkpoint.json").unlink()
    assert first(observe_home(small_home_copy, Settings())).name == "checkpoint"


def test_an_online_store_that_is_out(small_home: Path) -> None:
    settings = Settings(online_store_url=f"redis://127.0.0.1:{free_port(0)}/0")
    found = first(observe_home(small_home, settings))
    assert (found.name, found.status) == ("online_store", Status.BROKEN)


def test_a_ranker_service_that_is_not_there(small_home: Path) -> None:
    settings = Settings(ranker="bentoml", ranker_url=f"http://127.0.0.1:{free_port(0)}")
    assert first(observe_home(small_home, settings)).name == "ranker"


def test_data_that_cannot_be_read(small_home_copy: Path) -> None:
    (small_home_copy / "headwater.db").write_bytes(b"not a database" * 1000)
    found = first(observe_home(small_home_copy, Settings()))
    assert (found.name, found.status) == ("home", Status.BROKEN)
    assert "not a database" in found.sentence


def test_no_home_and_no_data(tmp_path: Path) -> None:
    found = first(observe_home(tmp_path / "none", Settings()))
    assert found.name == "home"
    found = first(observe_home(tmp_path, Settings()))
    assert (found.name, "there is no data" in found.sentence) == ("home", True)


def test_a_server_that_does_not_answer() -> None:
    found = first(observe_server(f"http://127.0.0.1:{free_port(0)}", "key"))
    assert (found.name, found.status) == ("server", Status.BROKEN)


# The command


@pytest.mark.e2e
def test_the_command_asks_a_running_server(
    small_home_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (small_home_copy / "bundles" / CHAMPION_FILE).unlink()
    engine = open_database(home_url(small_home_copy))
    token = keys.create_key(engine, "doctor", ["admin"], now_us()).token
    engine.dispose()
    with serving(small_home_copy, token, free_port(0), {}, tmp_path / "server.log") as server:
        with pytest.raises(SystemExit) as stop:
            main(["doctor", "--url", server.url, "--key", token, "--json"])
        told = json.loads(capsys.readouterr().out.splitlines()[-1])
        with pytest.raises(SystemExit):
            main(["doctor", "--url", server.url, "--key", "hw_wrong", "--json"])
        refused = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert stop.value.code == 1
    assert (told["ok"], told["binding"]["name"]) == (False, "bundle")
    assert {finding["name"] for finding in told["findings"]} == {check.name for check in CHECKS}
    assert refused["binding"]["name"] == "server"
    assert "401" in refused["binding"]["sentence"]


def test_the_command_looks_at_a_home(small_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["doctor", "--home", str(small_home)])
    shown = capsys.readouterr().out
    assert stop.value.code == 0
    assert "Nothing binds" in shown
    with pytest.raises(SystemExit) as stop:
        main(["doctor", "--url", "http://127.0.0.1:1"])
    assert stop.value.code == 2
