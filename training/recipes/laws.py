"""Laws that every retrieval model keeps, over a little world whose right answer is known.

`check(recipe)` holds a model of your own to them; the tests hold every recipe of this folder.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np

from contracts.clock import DAY_US
from contracts.events import EventType
from models.base import (
    FloatArray,
    Interactions,
    ItemHistories,
    PostContent,
    RetrievalModel,
    TrainingContext,
    TrainingFrame,
    VectorModel,
)
from training.recipes.base import Recipe

SIZE: Final = 24
START_US: Final = 1_600_000_000_000_000
CONTEXT: Final = TrainingContext(seed=3, threads=1)


class LawBroken(AssertionError):
    """A model does not keep a law; the message says which, in a sentence."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A recipe and what it learned from the checkerboard."""

    recipe: Recipe
    frame: TrainingFrame
    model: RetrievalModel

    @classmethod
    def of(cls, recipe: Recipe) -> "Subject":
        """Fit the recipe on the checkerboard."""
        frame = checkerboard()
        return cls(recipe, frame, recipe.fit(frame, CONTEXT))

    @property
    def vectors(self) -> VectorModel:
        """Give the model as one that an index can search; LawBroken where it is none."""
        if not isinstance(self.model, VectorModel):
            raise LawBroken(f"{self.recipe.name} is no VectorModel: it lacks one of its methods")
        return self.model


Law = Callable[[Subject], None]


def checkerboard() -> TrainingFrame:
    """Person u acts on item i where u + i is even, but for the diagonal: the right answer is u."""
    generator = np.random.Generator(np.random.PCG64(7))
    mine = [[i for i in range(SIZE) if (u + i) % 2 == 0 and i != u] for u in range(SIZE)]
    items = np.concatenate([generator.permutation(row) for row in mine]).astype(np.int64)
    users, n = np.repeat(np.arange(SIZE), [len(row) for row in mine]), len(items)
    times = START_US + np.arange(n, dtype=np.int64) * 1_000_000
    actions = Interactions(users, items, times, np.full(n, EventType.CLICK, dtype=np.int8))
    content = PostContent(
        [("red stripes of dawn", "blue dots at night")[i % 2] for i in range(SIZE)],
        [[i % 2 + 1] for i in range(SIZE)],
        np.full(SIZE, -1, np.int64),
        np.zeros(SIZE, np.int64),
    )
    return TrainingFrame(np.arange(100, 100 + SIZE, dtype=np.int64), SIZE, actions, content)


def histories_of(*rows: Sequence[int], event_type: EventType = EventType.CLICK) -> ItemHistories:
    """Make histories from lists of item rows, newest last, one action a minute."""
    width = max(1, *(len(row) for row in rows)) if rows else 1
    table = np.full((len(rows), width), -1, dtype=np.int64)
    for place, row in enumerate(rows):
        table[place, width - len(row) :] = row
    times = START_US + np.arange(width, dtype=np.int64) * 60_000_000
    return ItemHistories(
        table,
        np.where(table >= 0, event_type, 0).astype(np.int8),
        np.broadcast_to(times, table.shape).copy(),
        np.full(len(rows), START_US + DAY_US, dtype=np.int64),
    )


def scores_have_their_shape(of: Subject) -> None:
    """Scores are float32 [Q, n_items], of a model that bears its recipe's name."""
    _hold(isinstance(of.model, RetrievalModel), "the model lacks a method of RetrievalModel")
    _hold(of.model.name == of.recipe.name, f"the model is named {of.model.name}, not as its recipe")
    scores = of.model.score_all(histories_of([0, 2], [1]))
    said = f"scores of 2 viewers are {scores.dtype} {scores.shape}, not float32 (2, {SIZE})"
    _hold(scores.shape == (2, SIZE) and scores.dtype == np.float32, said)
    nobody = of.model.score_all(ItemHistories.empty(2).take(slice(0, 0)))
    _hold(nobody.shape == (0, SIZE), f"scores of nobody are {nobody.shape}, not (0, {SIZE})")


def comes_back_from_disk(of: Subject) -> None:
    """What was saved and loaded gives the same scores, to the bit; no pickle is written."""
    asked = histories_of([0, 2, 4], [5], [])
    with TemporaryDirectory() as folder:
        of.model.save(Path(folder))
        kinds = {path.suffix for path in Path(folder).iterdir()}
        again = type(of.model).load(Path(folder))
    _same(again.score_all(asked), of.model.score_all(asked), "the model that was loaded again")
    _hold(kinds <= {".json", ".safetensors"}, f"it writes {kinds}: JSON and safetensors may be")


def batch_is_single(of: Subject) -> None:
    """A viewer's scores do not depend on who else is asked for."""
    asked = histories_of([0, 2, 4], [1, 3], [7, 9, 11])
    single = [of.model.score_all(asked.take(slice(q, q + 1)))[0] for q in range(3)]
    _near(of.model.score_all(asked), np.stack(single), "a viewer asked alone, and with others,")


def same_seed_same_model(of: Subject) -> None:
    """The same frame, seed and configuration give the same model, to the bit."""
    again = of.recipe.fit(of.frame, CONTEXT)
    asked = histories_of([0, 2], [1, 5, 3])
    _same(again.score_all(asked), of.model.score_all(asked), "the model that was fitted again")


def config_comes_back_from_json(of: Subject) -> None:
    """The configuration survives being written down."""
    config = of.recipe.config
    again = type(config).model_validate_json(config.model_dump_json())
    _hold(again == config, "its configuration comes back from JSON as another")


def knows_the_withheld_diagonal(of: Subject) -> None:
    """Of all that a person has not acted on, the one right answer of the checkerboard is first."""
    rows = of.frame.interactions
    mine = [rows.item_rows[rows.user_rows == u].tolist() for u in range(SIZE)]
    scores = np.nan_to_num(of.model.score_all(histories_of(*mine)), nan=-np.inf)
    for user, seen in enumerate(mine):
        scores[user, seen] = -np.inf
    right = int((scores.argmax(axis=1) == np.arange(SIZE)).sum())
    _hold(right == SIZE, f"it puts the right answer first for {right} of {SIZE} people")


def says_nothing_of_somebody_unknown(of: Subject) -> None:
    """Without any action it cannot say, and says so: NaN, never 0."""
    scores = of.model.score_all(ItemHistories.empty(2))
    _hold(bool(np.isnan(scores).all()), "it scores posts for somebody who has done nothing")


def padding_says_nothing(of: Subject) -> None:
    """Empty places of a history change nothing."""
    wide = histories_of([0, 2], [1, 3, 5, 7]).take(slice(0, 1))
    tight = of.model.score_all(histories_of([0, 2]))
    _near(of.model.score_all(wide), tight, "the same history with empty places, and without,")


def score_is_the_dot_product(of: Subject) -> None:
    """A score is what an index computes: viewer vector times item vector."""
    asked = histories_of([0, 2, 4], [1])
    product = of.vectors.viewer_vectors(asked) @ of.vectors.item_vectors().T
    _near(of.model.score_all(asked), product, "a score, and the dot product that an index takes,")


def new_posts_count_where_they_have_vectors(of: Subject) -> None:
    """A history of a post that was added since moves the viewer, if the post has a vector."""
    new = of.vectors.encode_posts(of.frame.content.take(np.array([0])))
    table = np.concatenate([of.vectors.item_vectors(), new])
    viewer = of.vectors.viewer_vectors(histories_of([SIZE]), table)
    reachable = bool(np.isfinite(new).all())
    known = bool(np.isfinite(viewer).all())
    _hold(known == reachable, "a viewer of one new post has a vector just where the post has one")
    if reachable:
        scores = (viewer @ of.vectors.item_vectors().T)[0]
        alike, other = float(scores[0::2].mean()), float(scores[1::2].mean())
        _hold(alike > other, "after a new post it scores posts like it no higher than others")


def new_posts_are_encoded_alike_in_any_portions(of: Subject) -> None:
    """Posts encoded together and one by one get the same vectors, to the bit."""
    content = of.frame.content
    alone = [of.vectors.encode_posts(content.take(np.array([row]))) for row in range(len(content))]
    _same(of.vectors.encode_posts(content), np.concatenate(alone), "posts encoded one by one")


def one_more_action_moves_the_viewer(of: Subject) -> None:
    """The next request knows the last action."""
    before, after = (of.vectors.viewer_vectors(histories_of(h)) for h in ([0, 2, 4], [0, 2, 4, 1]))
    _hold(not np.allclose(before, after), "one more action leaves the viewer's vector as it was")


EVERY_MODEL: Final[tuple[Law, ...]] = (
    scores_have_their_shape, comes_back_from_disk, batch_is_single, same_seed_same_model,
    config_comes_back_from_json,
)  # fmt: skip
LEARNERS: Final[tuple[Law, ...]] = (
    knows_the_withheld_diagonal, says_nothing_of_somebody_unknown, padding_says_nothing,
)  # fmt: skip
"""Laws of models that learn who acts on what; popularity and chance do not."""
VECTOR_MODELS: Final[tuple[Law, ...]] = (
    score_is_the_dot_product, new_posts_count_where_they_have_vectors,
    new_posts_are_encoded_alike_in_any_portions, one_more_action_moves_the_viewer,
)  # fmt: skip


def check(recipe: Recipe, *, learns: bool = True) -> list[str]:
    """Hold a recipe to all laws of its kind: their names; LawBroken at the first that it breaks."""
    subject = Subject.of(recipe)
    vectors = VECTOR_MODELS if isinstance(subject.model, VectorModel) else ()
    laws = (*EVERY_MODEL, *(LEARNERS if learns else ()), *vectors)
    for law in laws:
        law(subject)
    return [law.__name__.replace("_", " ") for law in laws]


def _hold(kept: bool, sentence: str) -> None:
    if not kept:
        raise LawBroken(sentence)


def _same(one: FloatArray, other: FloatArray, what: str) -> None:
    _hold(np.array_equal(one, other, equal_nan=True), f"{what} gives other scores")


def _near(one: FloatArray, other: FloatArray, what: str) -> None:
    near = np.allclose(one, other, rtol=1e-4, atol=1e-5, equal_nan=True)
    _hold(near, f"{what} differ by more than rounding")
