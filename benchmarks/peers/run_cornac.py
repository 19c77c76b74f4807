"""Cornac's EASE (its WMF needs TensorFlow and is no ALS; its neighbours rank for a minute)."""

import numpy as np
from cornac.data import Dataset
from cornac.models import EASE

from benchmarks.peers.exchange import LONGEST, Lists, Task, answer


def ease(task: Task) -> Lists:
    """Invert the Gram matrix of items; negative weights kept, as in the paper."""
    model = EASE(lamb=task.settings["ridge"], posB=False, verbose=False)
    with task.phase("prepare"):
        pairs = zip(task.owners.tolist(), task.values.tolist(), strict=True)
        dataset = Dataset.from_uir([(*pair, 1.0) for pair in pairs], seed=0)
    with task.phase("fit"):
        model.fit(dataset)
    with task.phase("recommend"):
        found = (model.recommend(p, LONGEST, True, dataset) for p in task.people.tolist())
        return np.array([one + [-1] * (LONGEST - len(one)) for one in found])


if __name__ == "__main__":
    answer("cornac", {"ease": ease})
