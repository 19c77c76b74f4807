"""Our own models under the settings that the others get, in a process of its own as well."""

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.exchange import Lists, Task, answer
from contracts.events import EventType
from models.base import Interactions, ItemHistories, PostContent, TrainingContext, TrainingFrame
from training.dataset import Ragged
from training.protocols.exam import Scorer, ranked
from training.protocols.linear import DecayedEase
from training.protocols.members import Als, Ease, Member
from training.protocols.network import Shape
from training.protocols.split import Split
from training.protocols.transformer import Recipe, Transformer
from training.recipes.collaborative import ItemKnnConfig, ItemKnnRecipe

CONTEXT = TrainingContext(seed=0, threads=1)


def als(task: Task) -> Lists:
    """Run the protocols' ALS with one seed."""
    chosen = dict(task.settings)
    return _member(task, Als("als", confidence=chosen.pop("alpha"), **chosen))


def ease(task: Task) -> Lists:
    """Invert through the people where they are fewer than the items."""
    people, ridge = len(task.offsets) - 1, task.settings["ridge"]
    if people < task.n_items:
        return _member(task, Ease("ease", ridge / (len(task.values) / people), scale=0.0))
    return _member(task, DecayedEase(ridge=ridge, decay=1.0))


def sasrec(task: Task) -> Lists:
    """Train the sequence network for one epoch."""
    told = task.settings
    window = told["session_max_len"]
    shape = Shape(
        dimensions=told["n_factors"], blocks=told["n_blocks"], heads=told["n_heads"],
        window=window, dropout=told["dropout_rate"],
    )  # fmt: skip
    recipe = Recipe(
        shape=shape, epochs=1.0, tokens=told["batch_size"] * window, learning_rate=told["lr"],
        sample=told["n_negatives"] or task.n_items, warm_start=told.get("warm_start", False),
    )  # fmt: skip
    return _member(task, Transformer(recipe=recipe))


def knn(task: Task) -> Lists:
    """Fit the platform's item neighbours, without shrinkage."""
    with task.phase("prepare"):
        ids, moments = np.arange(task.n_items), np.arange(len(task.values))
        content = PostContent([""] * task.n_items, [()] * task.n_items, ids, ids)
        clicks = np.full(len(task.values), EventType.CLICK, dtype=np.int8)
        actions = Interactions(task.owners, task.values, moments, clicks)
        frame = TrainingFrame(ids, len(task.offsets) - 1, actions, content)
    recipe = ItemKnnRecipe(ItemKnnConfig(neighbours=task.settings["K"], shrinkage=0.0))
    with task.phase("fit"):
        model = recipe.fit(frame, CONTEXT)

    def scores(people: Lists) -> NDArray[np.float32]:
        lengths = np.diff(task.offsets)[people]
        place = np.arange(lengths.max())[None, :]
        there = place < lengths[:, None]
        at = np.minimum(task.offsets[people][:, None] + place, len(task.values) - 1)
        rows = np.where(there, task.values[at], -1)
        clicks = np.full(rows.shape, EventType.CLICK, dtype=np.int8)
        asked = ItemHistories(rows, clicks, rows, people, deduplicated=True)
        return model.score_all(asked)

    return _lists(task, scores)


def _split(task: Task) -> Split:
    lists = Ragged(task.values, task.offsets)
    return Split("task", task.n_items, lists, lists, lists)


def _member(task: Task, member: Member) -> Lists:
    split = _split(task)
    with task.phase("fit"):
        fitted = member.fit(split, CONTEXT)
    return _lists(task, lambda people: np.array(fitted.scores(split, people)))


def _lists(task: Task, scorer: Scorer) -> Lists:
    with task.phase("recommend"):
        return ranked(_split(task), task.people, scorer)


if __name__ == "__main__":
    answer("headwater", {"als": als, "ease": ease, "knn": knn, "sasrec": sasrec})
