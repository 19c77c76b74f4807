"""Describing data: figures of a known set, and each warning where it belongs."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.workspace import Workspace
from pipelines.commands.data import describe as describe_command
from pipelines.console import Reporter
from pipelines.describe import Description, describe, distribution
from pipelines.ingestion.ingest import ingest, open_dataset

DAY = 86_400


def described(folder: Path, files: dict[str, str]) -> Description:
    (folder / "in").mkdir()
    for name, content in files.items():
        (folder / "in" / name).write_text(content)
    with Workspace.open(folder / "home") as workspace:
        ingest(workspace, open_dataset(folder / "in"), Reporter(as_json=True))
        return describe(workspace)


def events(rows: list[str]) -> str:
    return "viewer_id,post_id,type,event_time\n" + "".join(f"{row}\n" for row in rows)


def test_figures_of_a_small_set(tmp_path: Path):
    start = 1_700_000_000
    rows = [f"a,p,like,{start}", f"a,q,click,{start + DAY}", f"a,q,like,{start + 2 * DAY}"]
    rows += [f"b,p,impression,{start}", f"b,p,view,{start + 3 * DAY}"]
    found = described(tmp_path, {"events.csv": events(rows)})
    assert found.counts == {
        "people": 2,
        "posts": 2,
        "follows": 0,
        "blocks": 0,
        "events": 5,
        "topics": 0,
    }
    assert found.days == 3.0
    assert found.density == 0.5
    assert found.types == {"like": 2, "view": 1, "click": 1, "impression": 1}
    assert found.activity.histogram == [("0", 1), ("1", 0), ("2-3", 1)]
    assert found.popularity.histogram == [("0", 0), ("1", 1), ("2-3", 1)]


def codes(found: Description) -> set[str]:
    return {warned.code for warned in found.warnings}


def test_warnings_of_a_poor_set(tmp_path: Path):
    start = 1_699_920_000  # midnight
    rows = [f"a{k},p,like,{start}" for k in range(200)]
    rows += [f"b,p,like,{start + DAY}", f"b,p,like,{start + 2 * DAY}"]
    posts = "post_id,text,created\np,same,2023-01-01\nq,same,2023-01-01\nr,,2024-01-01\n"
    found = described(
        tmp_path,
        {
            "events.csv": events([*rows, f"b,r,like,{start + 3 * DAY}"]),
            "posts.csv": posts,
            "follows.csv": "follower_id,followee_id\na1,b\n",
        },
    )
    assert codes(found) == {
        "no_impressions",
        "events_before_posts",
        "few_events_per_person",
        "cold_posts",
        "one_day_burst",
        "short_span",
        "days_only",
        "one_event_type",
        "known_time_assumed",
        "undated_follows",
        "authors_missing",
        "topics_missing",
        "texts_missing",
        "duplicate_texts",
    }
    burst = next(w.text for w in found.warnings if w.code == "one_day_burst")
    assert "99% of the events fall on 2023-11-14" in burst


def test_a_good_set_has_no_warning(tmp_path: Path):
    start = 1_700_000_000
    lines = ["viewer_id,post_id,type,event_time,known_time"]
    for k in range(400):
        when = start + k * 4_321
        kind = ("impression", "like", "click")[k % 3]
        lines.append(f"a{k % 7},p{k % 5},{kind},{when},{when + 5}")
    posts = [f"p{k},text {k},2023-01-01,a{k},t" for k in range(5)]
    found = described(
        tmp_path,
        {
            "events.csv": "\n".join(lines) + "\n",
            "posts.csv": "\n".join(["post_id,text,created,author_id,topics", *posts]) + "\n",
            "follows.csv": "follower_id,followee_id,since\na1,a2,2023-01-01\n",
        },
    )
    assert found.warnings == []


def test_an_empty_workspace_can_be_described(tmp_path: Path):
    with Workspace.open(tmp_path) as workspace:
        found = describe(workspace)
    assert found.first_event is None
    assert codes(found) == {"no_events", "no_follows"}


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=50))
def test_a_distribution_counts_everyone_once(counts: list[int]):
    shape = distribution(np.array(counts))
    assert sum(count for _, count in shape.histogram) == len(counts)
    assert 0.0 <= shape.gini < 1.0
    assert 0.0 <= shape.top_percent_share <= 1.0


def test_equal_counts_have_no_inequality():
    assert distribution(np.full(10, 3)).gini == 0.0


def test_the_command_prints_one_json_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    described(tmp_path, {"events.csv": events(["a,p,like,1700000000"])})
    describe_command(tmp_path / "home", as_json=True)
    result = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert result["counts"]["events"] == 1
    assert result["warnings"][0]["code"] == "no_impressions"
