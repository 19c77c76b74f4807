"""Training in a budget and the search, on the small world of all tests."""

import json
from pathlib import Path
from typing import Any

import mlflow
import optuna
import pytest

from contracts.errors import InvalidInput
from contracts.policy import Action, Policy
from features.workspace import Workspace
from models.bundle import Bundle
from pipelines.amounts import megabytes_of, seconds_of
from pipelines.anytime import AnytimeTraining, count_home, search_home
from pipelines.commands.train import train
from pipelines.console import Reporter, json_line
from pipelines.flow import challenger_id, read_home, read_report, train_on
from pipelines.publish import champion_id
from training.config import small_config
from training.costs import Limits
from training.recipes.spectral import ClosedFormConfig
from training.search import SPACES, Searched, _suggest, configured
from training.stages import StageClock
from training.tracking import EXPERIMENT, tracking_uri

ROOMY = Limits(300.0, 16_000.0)


class Interrupting(Reporter):
    """A terminal at which somebody presses Ctrl-C when a line begins with some words."""

    words = "Round 'whole'"

    def say(self, text: str, style: str | None = None) -> None:
        if text.startswith(self.words):
            raise KeyboardInterrupt
        super().say(text, style)


@pytest.mark.slow
def test_a_first_bundle_then_a_better_one(small_home_copy: Path) -> None:
    before = champion_id(small_home_copy)
    base = small_config(seed=4)
    run = AnytimeTraining(small_home_copy, base, ROOMY, Reporter(as_json=True), publish=True)
    said: dict[str, Any] = json.loads(json_line(run.summary(run.run())))
    rounds = said["rounds"]
    assert rounds[0]["round"] == "quick"
    assert rounds[-1]["round"] == "whole"
    kept = [each for each in rounds if each["promote"]]
    whole = bool(kept) and kept[-1] is rounds[-1]
    assert (said["left_out"] == []) == whole
    assert said["published"] == {each["bundle_id"]: "published" for each in kept}
    assert champion_id(small_home_copy) == (kept[-1]["bundle_id"] if kept else before)
    best = kept[-1] if kept else rounds[0]
    assert challenger_id(small_home_copy) == best["bundle_id"]
    for each in rounds:
        assert read_report(small_home_copy, each["bundle_id"]) is not None
        assert "against the champion" in each["why"]
        assert {"deep", "ranker", "test"} <= {step["step"] for step in each["steps"]}
        assert all(step["estimated_seconds"] >= 0.0 for step in each["steps"])
    assert 0.0 < said["first_bundle_seconds"] <= rounds[-1]["at_seconds"]


@pytest.mark.slow
def test_what_the_gate_refused_was_not_left_out_for_want_of_time(small_home_copy: Path) -> None:
    harm = Policy(name="harm", weights={Action.CLICK: -1.0})
    base = small_config().model_copy(update={"policy": harm})
    run = AnytimeTraining(small_home_copy, base, ROOMY, Reporter(as_json=True))
    said = run.summary(run.run())
    assert [each["promote"] for each in said["rounds"]] == [False] * len(said["rounds"])
    assert said["rounds"][-1]["round"] == "whole"
    reasons = {left["why"] for left in said["left_out"]}
    assert reasons == {"the gate refused the round 'whole', which had it"}


@pytest.mark.slow
def test_an_interrupt_keeps_the_best_so_far(small_home_copy: Path) -> None:
    run = AnytimeTraining(small_home_copy, small_config(), ROOMY, Interrupting(as_json=True))
    said = run.summary(run.run())
    assert said["stopped"] == "interrupted"
    assert "whole" not in [each["round"] for each in said["rounds"]]
    assert said["left_out"]
    assert run.best is not None
    assert challenger_id(small_home_copy) == run.best.found.bundle_id

    class AtOnce(Interrupting):
        words = "Round 'quick'"

    with pytest.raises(KeyboardInterrupt):
        AnytimeTraining(small_home_copy, small_config(), ROOMY, AtOnce(as_json=True)).run()


def test_what_cannot_fit_is_refused_before_anything_is_read(small_home_copy: Path) -> None:
    for limits in (Limits(300.0, 64.0), Limits(0.01, 16_000.0)):
        with pytest.raises(InvalidInput, match="the smallest plan"):
            AnytimeTraining(small_home_copy, small_config(), limits, Reporter(as_json=True)).run()


@pytest.mark.slow
def test_a_round_is_judged_beside_what_was_tested_of_the_one_before(small_home_copy: Path) -> None:
    config = small_config(seed=4).model_copy(update={"final_fit": True})
    data = read_home(small_home_copy)
    first, tested = train_on(small_home_copy, data, config, StageClock(), None)
    again, _ = train_on(small_home_copy, data, config, StageClock(), tested)
    assert "against the champion is" in again.why
    saved = Bundle.load(small_home_copy / "bundles" / first.bundle_id)
    assert saved.manifest.data.last_us > tested.manifest.data.last_us
    after, _ = train_on(small_home_copy, data, config, StageClock(), saved)
    assert "has learned from this test" in after.why


def test_a_home_where_nobody_acts_is_refused_in_words(tmp_path: Path) -> None:
    Workspace.open(tmp_path).close()
    with pytest.raises(InvalidInput, match="0 positive actions by 0 people"):
        count_home(tmp_path)
    with pytest.raises(InvalidInput, match="0 positive actions by 0 people"):
        search_home(tmp_path, read_home(tmp_path), small_config(), 1.0, Reporter(as_json=True))


def test_no_weight_at_all_is_a_default_that_can_be_searched_from() -> None:
    default = small_config().als.model_copy(update={"regularization": 0.0})
    found: dict[str, float] = {}

    def objective(trial: optuna.Trial) -> float:
        found.update(_suggest(trial, default, SPACES["als"]))
        return 0.0

    optuna.create_study().optimize(objective, n_trials=1)
    assert found["regularization"] >= 0.0


@pytest.mark.slow
def test_a_search_leaves_a_file_and_its_trials(small_home_copy: Path) -> None:
    base, data = small_config(seed=2), read_home(small_home_copy)
    found = search_home(small_home_copy, data, base, 4.0, Reporter(as_json=True))
    (path,) = (small_home_copy / "configs").glob("*.json")
    assert path.stem == data.dataset.fingerprint()
    assert configured(path, base) == found
    searched = Searched.model_validate_json(path.read_bytes())
    assert searched.seed == 2
    for name, tuned in searched.tuned.items():
        assert tuned.trials >= (2 if name == "als" else 1)  # most of the time is that one's
        changed = getattr(found, name) != getattr(base, name)
        assert changed == tuned.taken == (tuned.gain.low > 0.0)
    assert (
        found.model_copy(
            update={"als": base.als, "item_knn": base.item_knn, "content": base.content}
        )
        == base
    )
    client = mlflow.MlflowClient(tracking_uri=tracking_uri(small_home_copy))
    experiment = client.get_experiment_by_name(EXPERIMENT)
    trials = client.search_runs([experiment.experiment_id], "tags.kind = 'trial'")
    (parent,) = client.search_runs([experiment.experiment_id], "tags.kind = 'search'")
    assert len(trials) == searched.trials == sum(t.trials for t in searched.tuned.values())
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {parent.info.run_id}


def test_settings_of_ones_own_lie_over_the_defaults(tmp_path: Path) -> None:
    path, base = tmp_path / "own.json", small_config(seed=2)
    path.write_text('{"als": {"factors": 12}, "closed_form": {"neighbours": 7}}')
    found = configured(path, base)
    assert found.als == base.als.model_copy(update={"factors": 12})
    assert found.closed_form == ClosedFormConfig(neighbours=7)
    assert found.model_copy(update={"als": base.als, "closed_form": None}) == base


@pytest.mark.parametrize("text", ["[]", "no JSON", '{"als": {"factor": 3}}', '{"tuned": {}}', None])
def test_a_file_without_settings_is_refused(text: str | None, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InvalidInput, match="holds no settings"):
        configured(path, small_config())


def test_the_home_is_counted(small_home: Path) -> None:
    sizes, data = count_home(small_home), read_home(small_home)
    assert sizes.posts == data.dataset.n_items
    assert sizes.people == data.dataset.n_users
    assert sizes.actions == len(data.dataset.actions)
    assert sizes.impressions > 0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90.0), ("10m", 600.0), (" 1.5H ", 5400.0), ("0.5m", 30.0), ("1d", 86_400.0)],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(("text", "mb"), [("512m", 512.0), ("8g", 8192.0), ("2GB", 2048.0)])
def test_memory_is_read(text: str, mb: float) -> None:
    assert megabytes_of(text) == mb


@pytest.mark.parametrize("text", ["", "10", "m", "-5m", "0s", "10 m", "tenm", "5w", "1e3s", "nanm"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    for read in (seconds_of, megabytes_of):
        with pytest.raises(InvalidInput, match="is written as"):
            read(text)


def test_limits_belong_to_a_budget(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="belong to --budget"):
        train(ram=512.0, home=tmp_path)
    with pytest.raises(InvalidInput, match="belong to --budget"):
        train(publish=True, home=tmp_path)
