"""LensKit: implicit matrix factorisation, EASE and item neighbours in its top-n pipeline."""

import pandas as pd
from lenskit.als import ImplicitMFScorer
from lenskit.batch import recommend
from lenskit.data import from_interactions_df
from lenskit.knn import EASEScorer, ItemKNNScorer
from lenskit.pipeline import Component, topn_pipeline

from benchmarks.peers.exchange import LONGEST, Lists, Task, answer


def als(task: Task) -> Lists:
    """Solve each row exactly; its weight is the confidence less that of what was not seen."""
    told = task.settings
    size, epochs = told["factors"], told["iterations"]
    chosen = {"regularization": told["regularization"], "weight": told["alpha"] - 1}
    scorer = ImplicitMFScorer(
        embedding_size=size, epochs=epochs, user_embeddings="prefer", **chosen
    )
    return _lists(task, scorer)


def ease(task: Task) -> Lists:
    """Invert the Gram matrix of items."""
    return _lists(task, EASEScorer(regularization=task.settings["ridge"]))


def knn(task: Task) -> Lists:
    """Cosine neighbours."""
    k = task.settings["K"]
    return _lists(task, ItemKNNScorer(max_nbrs=k, save_nbrs=k, feedback="implicit"))


def _lists(task: Task, scorer: Component) -> Lists:
    with task.phase("prepare"):
        frame = pd.DataFrame({"user_id": task.owners, "item_id": task.values})
        dataset, pipeline = from_interactions_df(frame), topn_pipeline(scorer, n=LONGEST)
    with task.phase("fit"):
        pipeline.train(dataset)
    with task.phase("recommend"):
        found = recommend(pipeline, task.people.tolist(), LONGEST, n_jobs=1).to_df()
        return task.filled(found["user_id"].to_numpy(), found["item_id"].to_numpy())


if __name__ == "__main__":
    answer("lenskit", {"als": als, "ease": ease, "knn": knn})
