"""implicit alone, as its own examples use it."""

import numpy as np
from implicit.als import AlternatingLeastSquares
from implicit.nearest_neighbours import CosineRecommender
from implicit.recommender_base import RecommenderBase

from benchmarks.peers.exchange import LONGEST, Lists, Task, answer


def als(task: Task) -> Lists:
    """Alternate least squares by conjugate gradients, its default."""
    return _lists(task, AlternatingLeastSquares(**task.settings, num_threads=1, random_state=0))


def knn(task: Task) -> Lists:
    """Cosine neighbours."""
    return _lists(task, CosineRecommender(**task.settings, num_threads=1))


def _lists(task: Task, learner: RecommenderBase) -> Lists:
    matrix = task.matrix()
    with task.phase("fit"):
        learner.fit(matrix, show_progress=False)
    with task.phase("recommend"):
        items, scores = learner.recommend(task.people, matrix[task.people], N=LONGEST)
    return np.where(scores > np.finfo(np.float32).min, items, -1)


if __name__ == "__main__":
    answer("implicit", {"als": als, "knn": knn})
