"""Train, evaluate, publish, roll back, recommend: the whole way of a model on a small world."""

import json
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contracts.errors import Conflict, InvalidInput, NotFound
from contracts.ids import Namespace
from features.workspace import Workspace
from models.bundle import Bundle, read_manifest
from pipelines.commands.evaluate import evaluate
from pipelines.commands.mlflow import mlflow
from pipelines.commands.publish import publish, rollback
from pipelines.commands.recommend import MODELS, SCHEMA, recommend, write_lists
from pipelines.flow import FlowResult, challenger_id, read_home, read_report, run_training
from pipelines.publish import champion_id, publish_bundle
from training.config import small_config
from training.dataset import histories
from training.ranking import test_exam as make_test_exam
from training.stages import StageClock
from training.tracking import MODEL, set_alias, tracking_uri

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(small_home: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FlowResult]:
    home = tmp_path_factory.mktemp("trained") / "home"
    copytree(small_home, home)  # other modules of the process read the same small home
    results = home.parent / "results.md"
    found = run_training(home, small_config(seed=9), StageClock(), results)
    return home, found


def last_json(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert isinstance(found, dict)
    return found


def test_a_run_leaves_a_bundle_a_report_and_a_table(trained: tuple[Path, FlowResult]) -> None:
    home, found = trained
    manifest = read_manifest(home / "bundles" / found.bundle_id)
    assert {row.model for row in found.rows} == {
        "random", "popularity", "collaborative", "content", "deep", "neighbours",
        "fixed-blend", "retrieval-blend", "ensemble",
    }  # fmt: skip
    assert manifest.calibrated
    assert {"click", "like"} <= set(manifest.heads_trained)
    assert "people after the cut" in manifest.measured_on
    assert challenger_id(home) == found.bundle_id
    report = read_report(home, found.bundle_id)
    assert report is not None
    assert report["why"] == found.why
    assert "against the champion" in found.why
    assert "## " in (home.parent / "results.md").read_text()
    assert {"deep", "ranker", "test", "read"} <= {cost.name for cost in found.costs}


def test_the_ranker_is_judged_on_impressions(trained: tuple[Path, FlowResult]) -> None:
    metrics = trained[1].ranker_metrics
    assert metrics["click.auc"] > 0.5
    assert metrics["click.ece"] < 0.1
    assert metrics["dwell.mae_seconds"] > 0.0
    assert 0.7 < metrics["dwell.predicted_over_true"] < 1.4


def test_training_saw_nothing_of_the_test(trained: tuple[Path, FlowResult]) -> None:
    home, found = trained
    data = read_home(home)
    exam, _, split = make_test_exam(data, small_config(seed=9))
    assert split.cuts_us is not None
    manifest = read_manifest(home / "bundles" / found.bundle_id)
    assert manifest.data.last_us < split.cuts_us[1] <= exam.queries.now_us.min()
    known = histories(data.dataset, exam.queries)
    assert (known.times_us < exam.queries.now_us[:, None]).all()


def test_mlflow_knows_the_run_and_its_version(trained: tuple[Path, FlowResult]) -> None:
    home, found = trained
    assert set_alias(home, "champion", found.bundle_id)
    assert not set_alias(home, "champion", "0" * 16)
    assert tracking_uri(home).startswith("sqlite:///")
    assert MODEL
    assert len(found.run_id) == 32


def test_publish_evaluate_and_roll_back(
    trained: tuple[Path, FlowResult], capsys: pytest.CaptureFixture[str]
) -> None:
    home, found = trained
    before = champion_id(home)
    publish(home=home, force=True, as_json=True)
    done = last_json(capsys)
    assert done["bundle_id"] == found.bundle_id == champion_id(home)
    assert done["before"] == before
    assert done["golden_requests"] == 25
    assert done["registered"] is True
    with pytest.raises(Conflict, match="is the champion already"):
        publish_bundle(home, found.bundle_id)
    evaluate(home=home, as_json=True)
    table = last_json(capsys)
    assert table["saw_test"] is False
    mine = {row["model"]: row["metrics"]["ndcg@20"][0] for row in table["models"]}
    tested = {row.model: row.metrics["ndcg@20"].mean for row in found.rows}
    for model in ("popularity", "collaborative", "content", "deep", "ensemble"):
        assert mine[model] == pytest.approx(tested[model], abs=1e-4)
    rollback(home=home, as_json=True)
    assert last_json(capsys)["bundle_id"] == before == champion_id(home)
    with pytest.raises(NotFound, match="no bundle was champion before"):
        rollback(home=home)


@pytest.mark.parametrize("model", ["ensemble", "deep", "popularity"])
def test_recommends_for_everybody(
    model: str, trained: tuple[Path, FlowResult], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    home, found = trained
    out = tmp_path / "lists.parquet"
    recommend(
        out, all_users=True, k=7, model=model, bundle=found.bundle_id, home=home, as_json=True
    )
    said = last_json(capsys)
    table = pq.read_table(out)
    assert table.column_names == ["person_id", "post_id", "rank", "score"]
    assert table.num_rows == said["rows"] == said["people"] * 7
    frame = table.to_pandas()
    assert (frame.groupby("person_id")["rank"].apply(list).map(lambda r: r == [*range(1, 8)])).all()
    assert not frame.duplicated(["person_id", "post_id"]).any()
    falling = frame.groupby("person_id")["score"].apply(lambda s: (np.diff(s) <= 1e-7).all())
    assert falling.all()


def test_what_a_person_acted_on_is_not_recommended(
    trained: tuple[Path, FlowResult], tmp_path: Path
) -> None:
    home, found = trained
    out = tmp_path / "lists.parquet"
    recommend(out, all_users=True, model="content", bundle=found.bundle_id, home=home)
    data = read_home(home).dataset
    person = data.viewer_ids[data.actions.user_rows]
    acted = set(zip(person.tolist(), data.post_ids[data.actions.item_rows].tolist(), strict=True))
    assert acted
    table = pq.read_table(out).to_pydict()
    shown = set(zip(table["person_id"], table["post_id"], strict=True))
    names = named(home, acted)
    assert not shown & names


def named(home: Path, pairs: set[tuple[int, int]]) -> set[tuple[str, str]]:
    from_ids = read_names(home)
    return {(from_ids["person"][p], from_ids["post"][q]) for p, q in pairs}


def read_names(home: Path) -> dict[str, dict[int, str]]:
    with Workspace.open(home, read_only=True) as workspace:
        found = {}
        for namespace in (Namespace.PERSON, Namespace.POST):
            ids, names = workspace.ids.all(namespace)
            found[namespace.value] = dict(zip(ids.tolist(), names, strict=True))
    return found


def test_what_fails_midway_leaves_the_lists_of_before(tmp_path: Path) -> None:
    out = tmp_path / "lists.parquet"
    out.write_bytes(b"before")

    def tables() -> Iterator[pa.Table]:
        yield SCHEMA.empty_table()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_lists(out, tables(), lambda _: None)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"before"]


def test_bad_requests_are_said(trained: tuple[Path, FlowResult], tmp_path: Path) -> None:
    home, _ = trained
    out = tmp_path / "x.parquet"
    with pytest.raises(InvalidInput, match="there is no model 'best'"):
        recommend(out, all_users=True, model="best", home=home)
    with pytest.raises(InvalidInput, match="is no file that can be replaced"):
        recommend(tmp_path, all_users=True, home=home)
    with pytest.raises(InvalidInput, match="for everybody only"):
        recommend(out, home=home)
    with pytest.raises(NotFound, match="there is no bundle in"):
        publish(home=tmp_path)
    with pytest.raises(NotFound, match="there is no bundle in"):
        evaluate(home=tmp_path)
    with pytest.raises(NotFound, match="no training run is recorded"):
        mlflow(home=tmp_path)
    for command in (publish, evaluate):
        with pytest.raises(NotFound, match="there is no bundle '0000000000000000' in"):
            command(bundle="0" * 16, home=home)
    assert Bundle.load(home / "bundles" / str(champion_id(home))).bundle_id == champion_id(home)
    assert "ensemble" in MODELS
