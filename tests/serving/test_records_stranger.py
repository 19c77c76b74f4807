"""docs/records.md is enough: its program re-adds and re-sorts every feed without our code."""

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contracts.clock import now_us, to_datetime
from contracts.events import EVENT_SCHEMA, EventType
from contracts.ids import FeedId, UserId
from contracts.policy import (
    ColdStart,
    Exploration,
    Fatigue,
    Policy,
    Selection,
    fixed_blend,
    popular,
)
from contracts.query import FeedQuery
from contracts.record import PAGE_SCHEMA, RECORD_SCHEMA
from contracts.settings import Settings
from features.workspace import Workspace
from serving.opening import open_service

PAGE = Path(__file__).parents[2] / "docs" / "records.md"
KNOWN = {"math", "json", "sys", "collections", "hashlib", "pathlib", "numpy", "pyarrow"}
POLICIES = (
    Policy(name="drawn"),
    Policy(name="greedy", exploration=Exploration(temperature=0.0)),
    Policy(
        name="wild",
        exploration=Exploration(temperature=3.0, choices=20, regret=0.4, budget=0.5),
        cold_start=ColdStart(slots=(0, 1, 2, 5), impressions=500, lift=0.1, regret=0.3),
        fatigue=Fatigue(author_strength=2.0, topic_strength=1.0),
        selection=Selection(relevance=0.5, max_per_author=2, slate=40, reserve=20),
    ),
    fixed_blend(),
    popular(),
)


def program() -> str:
    (found,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return found


def ask(folder: Path, script: Path) -> tuple[int, dict]:
    """Run the program where it sees nothing of ours."""
    done = subprocess.run(
        [sys.executable, "-I", str(script), str(folder)],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stranger") / "stranger.py"
    path.write_text(program())
    return path


@pytest.fixture(scope="module")
def records(small_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of eight feeds for each of five policies, impressions and wishes between."""
    home = Path(shutil.copytree(small_home, tmp_path_factory.mktemp("stranger") / "home"))
    with Workspace.open(home) as workspace:
        for round_, policy in enumerate(POLICIES):
            settings = Settings(home=home).unhurried()
            service = open_service(workspace, settings, policy=policy)
            people = service._cache.people.person_id[: 5 + round_].tolist()
            for feed in range(8):
                feed_id = FeedId(1 + 10 * round_ + feed)
                query = FeedQuery(feed_id, UserId(people[feed % len(people)]), now_us(), 20)
                page = service.open(query)
                workspace.log.append(told(page))
                service.wait_applied(workspace.log.last_seq, 5.0)
            service._records.flush()
            service._keeper.seal()
            service.close()
        no_time = Settings(home=home).unhurried().model_copy(update={"feed_budget_ms": 1e-3})
        hurried = open_service(workspace, no_time)
        hurried.open(FeedQuery(FeedId(99), UserId(people[0]), now_us(), 20))
        hurried._records.flush()
        hurried._keeper.seal()
        hurried.close()
    return home / "records"


def told(page) -> pa.Table:
    """What the viewer did: saw five posts, and wants less of the first one's author."""
    at = to_datetime(now_us())
    rows = [
        {
            "event_id": 10**15 + page.feed_id * 100 + place, "type": int(kind),
            "viewer_id": page.viewer_id, "post_id": item.post_id, "event_time": at,
            "known_time": at, "known_assumed": True,
        }
        for place, (kind, item) in enumerate(
            [*((EventType.IMPRESSION, item) for item in page.items[:5]),
             (EventType.FEWER_OF_AUTHOR, page.items[0])]
        )
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=EVENT_SCHEMA)


def test_the_program_imports_nothing_of_ours() -> None:
    names = set()
    for node in ast.walk(ast.parse(program())):
        if isinstance(node, ast.ImportFrom):
            names.add(str(node.module))
        elif isinstance(node, ast.Import):
            names |= {name.name for name in node.names}
    assert {name.split(".")[0] for name in names} == KNOWN


def test_a_stranger_gets_every_ledger_and_every_feed(records: Path, script: Path) -> None:
    status, found = ask(records, script)
    assert found["wrong"] == {}
    assert status == 0
    assert found["records"] == {"ensemble": 24, "fixed_blend": 8, "velocity": 8, "none": 1}


def test_the_records_exercise_what_the_program_does(records: Path) -> None:
    """A comparison of nothing with nothing is always equal."""
    table = pq.read_table(sorted(records.glob("decisions-*.parquet")))
    chances = np.concatenate(table.column("propensities").to_numpy())
    assert (chances < 1.0).sum() > 100
    for name in (
        "control",
        "author_shown",
        "topic_shown",
        "cold_start",
        "in_network",
        "content_codes",
    ):
        assert np.concatenate(table.column(name).to_numpy()).any(), name
    assert len(set(table.column("policy_hash").to_pylist())) == len(POLICIES) + 1


@pytest.mark.parametrize("column", ["probabilities", "slate", "author_shown", "viewer_id"])
def test_a_stranger_notices_what_was_changed(
    records: Path, script: Path, tmp_path: Path, column: str
) -> None:
    shutil.copytree(records / "policies", tmp_path / "policies")
    path = sorted(records.glob("decisions-*.parquet"))[0]
    table = pq.read_table(path)
    place, cells = table.schema.get_field_index(column), table.column(column).to_pylist()
    if isinstance(cells[3], list):
        cells[3][0], cells[3][1] = cells[3][1], cells[3][0] + 1
    else:
        cells[3] += 1
    field = table.schema.field(column)
    changed = table.set_column(place, field, pa.array(cells, field.type))
    pq.write_table(changed, tmp_path / path.name)
    status, found = ask(tmp_path, script)
    assert status == 1
    (wrong,) = found["wrong"].values()
    assert "digest" in wrong


@pytest.mark.parametrize("schema", [RECORD_SCHEMA, PAGE_SCHEMA])
def test_every_column_is_described(schema: pa.Schema) -> None:
    text = PAGE.read_text()
    assert [name for name in schema.names if f"`{name}`" not in text] == []
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", text, re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert [name for name in named if name in RECORD_SCHEMA.names] == RECORD_SCHEMA.names
