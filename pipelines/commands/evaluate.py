"""`headwater evaluate`: judge a stored bundle on later data."""

from models.bundle import Bundle
from pipelines.commands.train import model_summary, print_models
from pipelines.console import AsJson, BundleId, Home, Reporter, home_of
from pipelines.flow import find_bundle, read_home
from pipelines.publish import champion_id
from training.champion import STRANGERS, has_seen_test, judge_bundle
from training.config import TrainingConfig
from training.evaluate import table
from training.ranking import test_exam


def evaluate(
    bundle: BundleId = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Score every model of a bundle on later data, with intervals, beside popularity.

    The test is that of the training run: the same cuts on the event log as it stands now.
    """
    report = Reporter(as_json)
    folder = home_of(home)
    name = find_bundle(folder, bundle or champion_id(folder))
    with report.stage("load and read"):
        loaded = Bundle.load(folder / "bundles" / name)
        data = read_home(folder)
    config = TrainingConfig.model_validate(dict(loaded.manifest.config))
    exam, source, split = test_exam(data, config)
    with report.stage("rank and judge"):
        judged = judge_bundle(loaded, data.dataset, exam, source, config.union)
        rows = table(data.dataset.name, split.sentence, list(judged.values()), exam, config.seed)
    print_models(report, rows)
    strangers = [name for name in STRANGERS if name in rows[0].slices]
    if strangers:
        cells = [(row.model, *(row.slices[name].text() for name in strangers)) for row in rows]
        columns = ("model", *(name.replace("_", " ") for name in strangers))
        report.table("Recall@20 of strangers: folded in, encoded from content", columns, cells)
    saw = has_seen_test(loaded, data.dataset, split)
    if saw:
        report.say("Note: this bundle has seen actions later than the test's cut.", style="yellow")
    report.finish(
        {
            "bundle_id": name,
            "set": data.dataset.name,
            "protocol": split.sentence,
            "saw_test": saw,
            "models": [model_summary(row) for row in rows],
        }
    )
