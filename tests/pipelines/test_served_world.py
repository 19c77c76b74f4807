"""A small world, ingested and served by a real server process: client, example, feed and why.

Without a bundle the server ranks by what is popular: what is tested here is the way, not the order.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts.clock import now_us
from contracts.errors import InvalidInput, NotFound, Unavailable
from contracts.settings import load_settings
from features.workspace import Workspace
from feed_api import keys
from feed_api.database import home_url, open_database
from pipelines.commands.feed import feed
from pipelines.commands.why import why
from pipelines.console import Reporter
from pipelines.feeds import FeedRow, answer_rows, print_feed
from pipelines.ingestion.ingest import ingest, open_dataset
from pipelines.platform_client import PlatformClient
from pipelines.server_process import free_port, make_admin_key, serving
from pipelines.worked_example import (
    LITTLE_KNOWN,
    PAGE,
    WorkedExample,
    print_example,
    some_viewers,
    three_likes,
)
from simulator.world import World

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, noon_us: int) -> Path:
    folder = tmp_path_factory.mktemp("served")
    World.generate(5, people=150, posts=500, days=7, end_us=noon_us).write(folder / "files")
    with Workspace.open(folder / "home") as workspace:
        ingest(workspace, open_dataset(folder / "files"), Reporter(as_json=True))
    return folder / "home"


@pytest.fixture(scope="module")
def client(
    home: Path, tmp_path_factory: pytest.TempPathFactory, server_clock: dict[str, str]
) -> Iterator[PlatformClient]:
    engine = open_database(home_url(home))
    token = keys.create_key(engine, "test", ["admin"], now_us()).token
    engine.dispose()
    log = tmp_path_factory.mktemp("log") / "server.log"
    with (
        serving(home, token, free_port(0), server_clock, log) as server,
        PlatformClient(server.url, token) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def workspace(home: Path) -> Iterator[Workspace]:
    with Workspace.open(home, read_only=True) as workspace:
        yield workspace


def test_a_feed_has_words_for_every_post(client: PlatformClient, workspace: Workspace) -> None:
    rows = answer_rows(workspace, client.feed("p1", 20), now_us())
    assert [row.position for row in rows] == list(range(20))
    for row in rows:
        assert row.text
        assert row.topics
        assert row.reason
        assert row.author_id != "p1"
        assert -0.1 < row.age_hours < 8 * 24


def test_pages_of_one_feed_never_repeat(client: PlatformClient) -> None:
    first = client.feed("p2", 30)
    second = client.feed("p2", 30, first["next"])
    assert first["feed_id"] == second["feed_id"]
    assert not {i["post_id"] for i in first["items"]} & {i["post_id"] for i in second["items"]}


def test_three_likes_are_known_within_a_second(
    client: PlatformClient, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    viewers = some_viewers(workspace, 3, LITTLE_KNOWN)
    examples = [three_likes(workspace, client, viewer, now_us()) for viewer in viewers]
    assert min(example.seconds for example in examples) < 1.0  # one disk may be slow once
    for example in examples:
        assert len(example.liked) == 3
        assert len(example.before) == len(example.after) == PAGE
        assert not set(example.liked) & {row.post_id for row in example.after}
    print_example(Reporter(), example)
    assert f"all on {example.topic}" in capsys.readouterr().out
    assert json.loads(json.dumps(example.as_json()))["viewer"] == viewers[-1]


def test_a_refused_request_says_why(client: PlatformClient) -> None:
    with pytest.raises(Unavailable, match="GET /v1/platform/feed: 400"):
        client.feed("p1", 20, cursor="forged")


def test_feed_and_why_print_the_same_feed(
    home: Path,
    client: PlatformClient,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert client.ready()  # a server has the home open while the commands read it
    monkeypatch.setenv("HEADWATER_HOME", str(home))
    load_settings.cache_clear()
    feed("p3", 10, as_json=True)
    served = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert len(served["items"]) == 10
    why(served["feed_id"], served["items"][2]["post_id"], as_json=True)
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    load_settings.cache_clear()
    assert told["outcome"] == "served"
    assert told["position"] == 2
    assert "At place 3" in told["text"]


def test_commands_name_what_is_not_there(home: Path) -> None:
    with pytest.raises(NotFound, match="nobody is known as 'nobody'"):
        feed("nobody", home=home)
    with pytest.raises(InvalidInput, match="16 lower-case hexadecimal digits"):
        why("xyz", "post1", home=home)
    with pytest.raises(NotFound, match="no post is known as 'nothing'"):
        why("0" * 16, "nothing", home=home)


def test_a_server_keeps_its_metrics_to_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A parent that has imported feast has these variables set; the server must not see them."""
    shared = tmp_path / "shared"
    shared.mkdir()
    for name in ("PROMETHEUS_MULTIPROC_DIR", "PROMETHEUS_MULTIPROCESS_DIR"):
        monkeypatch.setenv(name, str(shared))
    home, log = tmp_path / "home", tmp_path / "server.log"
    home.mkdir()
    with serving(home, make_admin_key(home, "test"), free_port(0), {}, log):
        assert not list(shared.iterdir())


def test_a_server_that_can_not_start_says_its_last_words(tmp_path: Path) -> None:
    bad = {"HEADWATER_LOG_LEVEL": "shout"}
    with (
        pytest.raises(Unavailable, match=r"did not start; its last words:[\s\S]*log_level"),
        serving(tmp_path, "hw_x", free_port(0), bad, tmp_path / "server.log"),
    ):
        pass


def test_a_server_of_another_home_on_the_port_is_not_taken_for_ours(
    client: PlatformClient, tmp_path: Path
) -> None:
    home, log = tmp_path / "home", tmp_path / "server.log"
    home.mkdir()
    token = make_admin_key(home, "test")
    port = client.base_url.port
    assert port is not None
    with PlatformClient(str(client.base_url), token) as stranger:
        assert not stranger.ready()
    with (
        pytest.raises(
            Unavailable, match=r"did not start; its last words:[\s\S]*address already in use"
        ),
        serving(home, token, port, {}, log),
    ):
        pass


def test_a_long_text_is_cut_and_a_missing_author_dashed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    row = FeedRow(0, "post1", None, ("cooking",), 100.0, "long " * 60, "Because [you] asked", 0.5)
    print_feed(Reporter(), "Feed of p1", [row])
    shown = capsys.readouterr().out
    assert "…" in shown
    assert "Because [you] asked" in shown
    assert "4 d" in shown


def test_shares_of_a_topic() -> None:
    def page(*topics: str) -> tuple[FeedRow, ...]:
        return tuple(FeedRow(0, "x", None, (topic,), 0.0, "", "", 0.0) for topic in topics)

    example = WorkedExample("p1", "a", (), page("a", "b", "b", "b"), page("a", "a"), 0.1)
    assert example.shares == (0.25, 1.0)
