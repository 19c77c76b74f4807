"""Adapters against the real data sets; skipped where they are absent."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest

from contracts.clock import HOUR_US
from contracts.errors import InvalidInput, NotFound
from contracts.ids import Namespace
from contracts.settings import load_settings
from features.segments import integers_of
from features.workspace import Workspace
from pipelines.console import Reporter
from pipelines.ingestion.adapters.ml_1m import END_US, ordered_times
from pipelines.ingestion.ingest import IngestReport, ingest, open_dataset
from training.split import SplitConfig, cuts_in_time

Ingested = tuple[Workspace, IngestReport, dict[str, object]]


def data_folder(name: str) -> Path:
    folder = load_settings().data_dir / name
    if not folder.is_dir():
        pytest.skip(f"the data set {name} is not under HEADWATER_DATA_DIR ({folder.parent})")
    return folder


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Ingested]:
    done: dict[str, Ingested] = {}

    def get(name: str) -> Ingested:
        if name not in done:
            dataset = open_dataset(data_folder(name))
            workspace = Workspace.open(tmp_path_factory.mktemp(name))
            report = ingest(workspace, dataset, Reporter(as_json=True))
            facts = json.loads(workspace.meta_get("dataset") or "")
            done[name] = (workspace, report, facts)
        return done[name]

    return get


def test_ml_100k_ratings_are_clicks_and_likes(ingested: Callable[[str], Ingested]):
    workspace, report, facts = ingested("ml-100k")
    assert [file.rejected for file in report.files] == [0, 0, 0]
    assert facts["split"] == {"kind": "time"}
    assert facts["has_impressions"] is False
    types = workspace.log.scan(columns=["type"])["type"].to_numpy()
    assert ((types == 5).sum(), (types == 6).sum()) == (100_000, 55_375)
    people = workspace.catalog.people()
    assert people.num_rows == 943
    assert json.loads(people["attributes"][0].as_py()).keys() == {
        "age",
        "gender",
        "occupation",
        "zip_code",
    }
    posts = workspace.catalog.posts()
    assert posts["text"][0].as_py() == "Toy Story"
    names = workspace.ids.external(Namespace.TOPIC, np.array(posts["topics"][0].as_py()))
    assert names == ["Animation", "Children's", "Comedy"]


@pytest.mark.parametrize("name", ["ml-100k", "ml-1m", "lastfm-social"])
def test_no_event_comes_before_its_post(ingested: Callable[[str], Ingested], name: str):
    workspace, _, _ = ingested(name)
    events = workspace.log.scan(columns=["post_id", "event_time"])
    posts = workspace.catalog.posts()
    places = np.searchsorted(integers_of(posts, "post_id"), integers_of(events, "post_id"))
    assert (integers_of(posts, "created")[places] <= integers_of(events, "event_time")).all()


def test_ml_1m_keeps_the_order_and_ends_together(ingested: Callable[[str], Ingested]):
    workspace, report, facts = ingested("ml-1m")
    assert facts["split"] == {"kind": "order"}
    assert report.events_in_log == 999_611
    events = workspace.log.scan(columns=["viewer_id", "post_id", "event_time", "known_assumed"])
    assert pc.all(events["known_assumed"]).as_py()
    viewer = workspace.ids.lookup(Namespace.PERSON, ["1"])[0]
    mine = integers_of(events, "post_id")[integers_of(events, "viewer_id") == viewer]
    lines = (data_folder("ml-1m") / "ml-1m.txt").read_text().splitlines()
    order = [line.split()[1] for line in lines if line.startswith("1 ")]
    assert workspace.ids.external(Namespace.POST, mine) == order
    last = integers_of(events, "event_time") == END_US
    assert last.sum() == 6_040


def test_ordered_times_align_each_persons_end():
    times = ordered_times(np.array([7, 7, 3, 7, 3]))
    assert ((END_US - times) // HOUR_US).tolist() == [2, 1, 1, 0, 0]


def test_lastfm_has_friends_months_and_rejects(ingested: Callable[[str], Ingested]):
    workspace, report, facts = ingested("lastfm-social")
    assert facts["split"] == {"kind": "month"}
    by_kind = {file.kind: file for file in report.files}
    assert by_kind["events"].reasons == {"event_time is before 1990": 5}
    follows = {tuple(row.values())[:2] for row in workspace.catalog.follows().to_pylist()}
    assert len(follows) == 25_434
    assert all((b, a) in follows for a, b in follows)
    events = workspace.log.scan(columns=["viewer_id", "post_id", "event_time"])
    months = integers_of(events, "event_time").astype("datetime64[us]").astype("datetime64[M]")
    keys = np.stack(
        (
            integers_of(events, "viewer_id"),
            integers_of(events, "post_id"),
            months.astype(np.int64),
        ),
        axis=1,
    )
    assert len(np.unique(keys, axis=0)) == len(keys)
    assert (months >= np.datetime64("2005-01")).all()
    post = workspace.catalog.posts_by_id(workspace.ids.lookup(Namespace.POST, ["52"]))
    assert "Morcheeba" in post["text"][0].as_py()
    counts = pc.list_value_length(workspace.catalog.posts()["topics"])
    assert pc.max(counts).as_py() <= 5
    assert len(workspace.catalog.topics()[0]) <= 100


def test_a_changed_or_missing_file_is_refused(tmp_path: Path):
    source = data_folder("ml-100k")
    shutil.copy(source.parent / "SHA256SUMS", tmp_path / "SHA256SUMS")
    folder = tmp_path / "ml-100k"
    shutil.copytree(source, folder, copy_function=shutil.copyfile)
    folder.chmod(0o755)
    with (folder / "ml-100k.user").open("ab") as file:
        file.write(b"x\n")
    with pytest.raises(InvalidInput, match="differs from its checksum"):
        open_dataset(folder)
    (folder / "ml-100k.user").unlink()
    with pytest.raises(NotFound, match=r"lacks ml-100k\.user"):
        open_dataset(folder, adapter="ml-100k")


def test_lastfm_describes_artists_by_what_was_known_before_the_cut(
    ingested: Callable[[str], Ingested],
):
    workspace, _, _ = ingested("lastfm-social")
    liked = integers_of(workspace.log.scan(columns=["event_time"]), "event_time")
    cut_us, _ = cuts_in_time(liked, "month", SplitConfig())
    posts = workspace.catalog.posts()
    late = integers_of(posts, "created") >= cut_us
    topics = pc.list_value_length(posts["topics"]).to_numpy()
    assert late.sum() > 100
    assert topics[late].max() == 0
    assert topics[~late].max() == 5


def test_lightgcn_lines_are_clicks_in_an_order_by_chance(tmp_path: Path):
    folder = tmp_path / "places"
    folder.mkdir()
    (folder / "train.txt").write_text("0 " + " ".join(map(str, range(40))) + "\n1 3 4\n2\n")
    (folder / "test.txt").write_text("0 41\n")
    dataset = open_dataset(folder)
    assert dataset.adapter == "lightgcn"
    workspace = Workspace.open(tmp_path / "home")
    report = ingest(workspace, dataset, Reporter(as_json=True))
    assert [file.rejected for file in report.files] == [0]
    facts = json.loads(workspace.meta_get("dataset") or "")
    assert facts["split"] == {"kind": "order"}
    events = workspace.log.scan(columns=["viewer_id", "post_id", "event_time"])
    posts = workspace.ids.external(Namespace.POST, events["post_id"].to_numpy())
    people = np.array(workspace.ids.external(Namespace.PERSON, events["viewer_id"].to_numpy()))
    mine = [int(post) for post, person in zip(posts, people, strict=True) if person == "0"]
    assert sorted(mine) == list(range(40))
    assert mine != sorted(mine)
    assert integers_of(events, "event_time").max() == END_US
    assert "41" not in posts  # the test's lines are not read


def test_lightgcn_says_which_line_is_broken(tmp_path: Path):
    (tmp_path / "train.txt").write_text("0 1 2\n1 x\n")
    (tmp_path / "test.txt").write_text("")
    with pytest.raises(InvalidInput, match=r"train.txt, line 2: '1 x' is not"):
        open_dataset(tmp_path)
