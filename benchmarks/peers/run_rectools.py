"""RecTools: implicit's ALS wrapped, EASE, SASRec."""

from typing import Any

import numpy as np
import pandas as pd
from implicit.als import AlternatingLeastSquares
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import LambdaCallback
from rectools import models
from rectools.dataset import Dataset

from benchmarks.peers.exchange import LONGEST, Lists, Task, answer


def als(task: Task) -> Lists:
    """Wrap implicit's ALS."""
    learner = AlternatingLeastSquares(**task.settings, num_threads=1, random_state=0)
    return _lists(task, models.ImplicitALSWrapperModel(learner))


def ease(task: Task) -> Lists:
    """Invert the Gram matrix of items."""
    return _lists(task, models.EASEModel(task.settings["ridge"], recommend_n_threads=1))


def sasrec(task: Task) -> Lists:
    """Train one epoch; 0 negatives is the full softmax."""
    chosen = dict(task.settings)
    precision, negatives = chosen.pop("precision"), chosen.pop("n_negatives")
    epoch = task.phase("epoch")  # without the data set's preparation inside `fit`
    clock = LambdaCallback(
        on_train_epoch_start=lambda *_: epoch.__enter__(),
        on_train_epoch_end=lambda *_: epoch.__exit__(None, None, None),
    )
    off = dict.fromkeys(("logger", "enable_progress_bar", "enable_checkpointing"), False)

    def trainer() -> Trainer:
        return Trainer(
            max_epochs=1, precision=precision, callbacks=[clock], accelerator="cpu", **off
        )

    loss = "sampled_softmax" if negatives else "softmax"
    chosen |= {"n_negatives": negatives or 1, "get_trainer_func": trainer}
    return _lists(task, models.SASRecModel(**chosen, loss=loss))


def _lists(task: Task, model: Any) -> Lists:  # noqa: ANN401 - any of its models
    with task.phase("prepare"):
        moments = pd.to_datetime(np.arange(len(task.values)), unit="s")
        columns = {"user_id": task.owners, "item_id": task.values, "weight": 1.0}
        dataset = Dataset.construct(pd.DataFrame({**columns, "datetime": moments}))
    with task.phase("fit"):
        model.fit(dataset)
    with task.phase("recommend"):
        found = model.recommend(task.people, dataset, k=LONGEST, filter_viewed=True)
        return task.filled(found["user_id"].to_numpy(), found["item_id"].to_numpy())


if __name__ == "__main__":
    answer("rectools", {"als": als, "ease": ease, "sasrec": sasrec})
