"""What a tired person types: said in words, exit status 2, one line of JSON, nothing left."""

import json
import os
from pathlib import Path

import pytest

from features.workspace import Workspace
from pipelines.cli import main
from pipelines.console import Reporter
from pipelines.doctor import observe_server
from pipelines.ingestion.ingest import ingest, open_dataset
from pipelines.ingestion.rows import Kind

EVENTS = "user_id,post_id,type,timestamp\n" + "".join(
    f"u{k % 7},p{k % 5},click,{1_710_000_000 + 1000 * k}\n" for k in range(60)
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Events of posts without authors."""
    folder = tmp_path_factory.mktemp("plain")
    (folder / "events.csv").write_text(EVENTS)
    with Workspace.open(folder / "home") as workspace:
        dataset = open_dataset(None, {Kind.EVENTS: folder / "events.csv"})
        ingest(workspace, dataset, Reporter(as_json=True))
    return folder / "home"


def status_of(*arguments: str) -> object:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    return stop.value.code


WRONG = [
    ("features materialize --home {new}", "there is no data in"),
    ("features materialize --home {home} --no-online --check", "leave one of the two out"),
    ("keys list --home {new}", "there is no folder"),
    ("keys revoke 0123 --home {new}", "there is no folder"),
    ("publish nonsuch --home {home}", "there is no bundle 'nonsuch'"),
    ("evaluate --bundle nonsuch --home {home}", "there is no bundle 'nonsuch'"),
    ("policy validate {latin}", "is not UTF-8 text"),
    ("ingest --adapter nonsense --events {events} --home {new}", "reads a whole folder"),
    ("ingest --events {events} --column people.person_id=x --home {new}", "no file of people"),
    ("ingest --events {events} --home {events}", "check the path"),
    ("ingest --events {events} --home {events}/below", "check the path"),
    ("reproduce nonsense --data {new}", "there is no set"),
]


@pytest.mark.parametrize(("line", "says"), WRONG, ids=[line for line, _ in WRONG])
def test_a_wrong_line_is_said(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, says: str
) -> None:
    (tmp_path / "latin.json").write_bytes('{"name": "größe"}'.encode("latin-1"))
    (tmp_path / "events.csv").write_text(EVENTS)
    names = {
        "home": home, "new": tmp_path / "new", "latin": tmp_path / "latin.json",
        "events": tmp_path / "events.csv",
    }  # fmt: skip
    words = [word.format(**names) for word in line.split()]
    assert status_of(*words, "--json") == 2
    (told,) = capsys.readouterr().out.splitlines()
    error = json.loads(told)["error"]
    assert error["type"] != "internal"
    assert says in f"{error['detail']} {error['hint']}"
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "line",
    [
        "serve --port 99999", "serve --port 0", "train --seed -1", "replay --sample 1 --seed -1",
        "features materialize --cadence-hours 1e300", "demo --port 70000",
    ],
)  # fmt: skip
def test_a_number_out_of_bounds_is_said(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(*line.split()) == 2
    assert "Invalid value" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("url", "key"), [("http://[::1", "k"), ("http://127.0.0.1:1", "k"), ("http://x", "größe")]
)
def test_an_odd_address_or_key_is_an_observation(url: str, key: str) -> None:
    assert url in observe_server(url, key).server_problem


def test_a_disk_that_is_full_is_no_wrong_path(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28), "x")

    monkeypatch.setattr(Workspace, "open", full)
    assert status_of("data", "describe") == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning:feast.*")
def test_features_of_posts_without_authors_are_compared(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of("features", "materialize", "--check", "--home", str(home), "--json") == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["ok"]
    assert found["parity"]["online, author_state"] == {"rows": 0, "values": 0, "unequal": 0}
    assert found["parity"]["online, post_state"]["rows"] == 5
