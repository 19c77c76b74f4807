"""Settings of the ensemble ranker, compared on validation alone; the test is never asked.

`make bench NAME=ranker_settings ARGS="--home var/demo-ml-100k --home ..."`: homes that hold data.
The people of the validation window are dealt into folds; each fold is ranked by a ranker that
learned from the others, so every figure is about people that its ranker has not seen.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import finish
from contracts.policy import Policy
from models.base import TrainingContext
from pipelines.flow import read_home
from training.candidates import Candidates
from training.config import TrainingConfig
from training.dataset import Dataset
from training.ensemble import ask_features, candidate_rows, ensemble_lists, predict_values
from training.fitting import choose_families, fit_models
from training.ranking import stack_families, validation_exam, visible_features
from training.recipes.ranker import RankerRecipeConfig, fit_ranker
from training.scoring import Exam, ranked_lists
from training.stages import StageClock

COLUMNS = ("data", "model", "folds", "ndcg@20")
FOLDS = 4
SETTINGS = [(1, 3e-3), (1, 1e-3), (3, 3e-3), (3, 1e-3), (5, 1e-3)]


def main() -> None:
    """Compare every setting on every home, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, action="append", required=True)
    rows = [row for home in parser.parse_args().home for row in compare(home)]
    finish("ranker_settings", rows, COLUMNS)


def compare(home: Path) -> list[dict[str, Any]]:
    """Fit the families before the first cut and judge rankers on the window after it."""
    data, config = read_home(home), TrainingConfig()
    clock = StageClock(begins=lambda name: print(f"  {name}", flush=True))
    exam, split = validation_exam(data, config)
    models = fit_models(data.dataset.frame(split.fit), config, clock)
    choice = choose_families(models, exam, config)
    stack, union = stack_families(models, choice, exam, config)
    lists = {name.value: ranked_lists(exam, model) for name, model in stack.families.items()}
    lists["retrieval-blend"] = ranked_lists(exam, stack.blended())
    rest = lists["retrieval-blend"]
    source = visible_features(data, split, exam.queries)
    features = ask_features(data.dataset, source, exam.queries, union.rows, union.scores)
    for members, rate in SETTINGS:
        shape = config.ranker.shape.model_copy(update={"members": members})
        setting = config.ranker.model_copy(update={"shape": shape, "learning_rate": rate})
        name = f"ensemble, {members} members, rate {rate:g}"
        print(f"  {name}", flush=True)
        values = _out_of_fold(data.dataset, (exam, union, features), setting, config)
        lists[name] = ensemble_lists(union, values, rest)
    return [
        {"data": data.dataset.name, "model": n, "folds": FOLDS, "ndcg@20": exam.ndcg(x[:, :20])}
        for n, x in lists.items()
    ]


def _out_of_fold(
    dataset: Dataset,
    asked: tuple[Exam, Candidates, NDArray[np.float16]],
    setting: RankerRecipeConfig,
    config: TrainingConfig,
) -> NDArray[np.float64]:
    """Give each candidate [Q, C] the value of a ranker that never saw its person."""
    exam, union, features = asked
    fold = np.random.default_rng(0).permutation(len(exam)) % FOLDS
    values = np.full(union.rows.shape, np.nan)
    for number in range(FOLDS):
        learn, ask = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        learn = learn[: config.ranker_people]
        rows = candidate_rows(dataset, exam.queries.take(learn), union.take(learn), features[learn])
        ranker, _ = fit_ranker(rows, setting, TrainingContext(0, 1, config.ranker_seconds))
        values[ask] = predict_values(ranker, Policy(name="e"), features[ask], union.rows[ask] >= 0)
    return values


if __name__ == "__main__":
    main()
