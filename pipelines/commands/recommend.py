"""`headwater recommend`: plain top-k lists for everybody, to score with tools of one's own."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import typer
from numpy.typing import NDArray

from contracts.errors import InvalidInput
from contracts.ids import Namespace
from features.storage import durable_file
from features.workspace import Workspace
from models.base import FloatArray, IntArray, Scorer
from models.bundle import Bundle
from pipelines.console import AsJson, BundleId, Home, Reporter, home_of
from pipelines.flow import find_bundle
from pipelines.publish import champion_id
from pipelines.ray_option import RayWorkers, ray_session
from training.champion import AlignedBundle
from training.config import TrainingConfig
from training.dataset import Dataset, Queries
from training.reading import TrainingData, read_training_data
from training.scoring import Exam, best_of, chunks, exam_of

MODELS: Final = (
    "ensemble", "retrieval-blend", "fixed-blend", "collaborative", "content", "deep", "neighbours",
    "popularity",
)  # fmt: skip
SCHEMA: Final = pa.schema(
    [
        pa.field("person_id", pa.string(), nullable=False),
        pa.field("post_id", pa.string(), nullable=False),
        pa.field("rank", pa.int32(), nullable=False),
        pa.field("score", pa.float32(), nullable=False),
    ]
)
BATCH: Final = 2048
"""People a batch: bounds the memory of the ensemble's features."""


def recommend(
    out: Annotated[Path, typer.Option(help="Parquet file to write.")],
    all_users: Annotated[
        bool, typer.Option("--all-users", help="Write lists for everybody; needed, to be sure.")
    ] = False,
    k: Annotated[int, typer.Option("--k", min=1, max=1000, help="Posts a person.")] = 20,
    model: Annotated[str, typer.Option(help=f"One of {', '.join(MODELS)}.")] = "ensemble",
    bundle: BundleId = None,
    ray: RayWorkers = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Write plain top-k lists for all users to a Parquet file.

    Columns: person_id and post_id as in your files, rank from 1, score. Posts that a person has
    acted on are left out; the moment is just after the newest event.
    """
    report = Reporter(as_json)
    folder = home_of(home)
    if not all_users:
        msg = "lists are written for everybody only"
        raise InvalidInput(msg, hint="add --all-users; for one person: headwater feed VIEWER")
    if out.exists() and not out.is_file():
        raise InvalidInput(f"{out} is no file that can be replaced", hint="name another with --out")
    name = find_bundle(folder, bundle or champion_id(folder))
    if ray is not None:  # or the workers would find it out, each for itself
        check_model(model)
        Bundle.load(folder / "bundles" / name)
    with report.progress("people") as advance, ray_session(ray, folder) as jobs:
        write = recommend_all if jobs is None else jobs.recommend_all
        people, rows = write(folder, name, model, k, out, advance)
    report.say(f"{rows:,} rows for {people:,} people by {model} of bundle {name} in {out}")
    report.finish(
        {"people": people, "rows": rows, "model": model, "bundle_id": name, "out": str(out)}
    )


@dataclass(frozen=True, slots=True)
class Lists:
    """All that plain lists are made from, read once a process."""

    data: TrainingData
    """With a user row for everybody."""
    queries: Queries
    aligned: AlignedBundle
    model: str
    k: int
    people: NDArray[np.str_]
    """External id of each user row."""
    posts: NDArray[np.str_]
    """External id of each item row."""

    @classmethod
    def open(cls, home: Path, bundle: str, model: str, k: int) -> "Lists":
        """Read a home and one of its bundles; InvalidInput where there is no such model."""
        check_model(model)
        with Workspace.open(home, read_only=True) as workspace:
            data = read_training_data(workspace)
            ids, names = workspace.ids.all(Namespace.PERSON)
            posts = np.array(workspace.ids.external(Namespace.POST, data.dataset.post_ids))
        everybody = _with_everybody(data, ids)
        aligned = AlignedBundle.of(Bundle.load(home / "bundles" / bundle), everybody.dataset)
        people = np.array(names)[np.argsort(ids)]
        return cls(everybody, _now(everybody.dataset), aligned, model, k, people, posts)

    def table(self, rows: IntArray) -> pa.Table:
        """Give the best k posts of some people, what each has acted on left out: `SCHEMA`.

        The moment is just after the newest event. People without history get what is popular.
        """
        queries = self.queries[rows]
        best, scores = self._rank(queries)
        return _table(self.people[queries.user_rows], self.posts, best, scores)

    def _rank(self, queries: Queries) -> tuple[IntArray, FloatArray]:
        """Rank for some people, by popularity where a model finds nothing: item rows, scores."""
        data, bundle = self.data, self.aligned.bundle
        exam = exam_of(data.dataset, queries, bundle.popularity.scores)
        if self.model == "ensemble":
            union = TrainingConfig.model_validate(dict(bundle.manifest.config)).union
            best, found, values = self.aligned.ensemble(
                data.dataset, exam, data.features, union, self.k
            )
            scores = _values_of(best, found.rows, values)
        else:
            best, scores = _top(self.aligned.scorers[self.model], exam, self.k)
        nothing = (best < 0).all(axis=1)
        if nothing.any():
            popular, values = _top(self.aligned.scorers["popularity"], exam, best.shape[1])
            best[nothing], scores[nothing] = popular[nothing], values[nothing]
        return best, scores


def check_model(model: str) -> None:
    """Raise InvalidInput where there is no such model."""
    if model not in MODELS:
        raise InvalidInput(f"there is no model {model!r}", hint=f"models are {', '.join(MODELS)}")


def recommend_all(
    home: Path, bundle: str, model: str, k: int, out: Path, advance: Callable[[int], None]
) -> tuple[int, int]:
    """Write everybody's lists in this process: people and rows."""
    lists = Lists.open(home, bundle, model, k)
    people = len(lists.queries)
    parts = (np.arange(s, min(s + BATCH, people)) for s in range(0, people, BATCH))
    return people, write_lists(out, (lists.table(part) for part in parts), advance)


def write_lists(out: Path, tables: Iterable[pa.Table], advance: Callable[[int], None]) -> int:
    """Write tables of `SCHEMA` to one file, there when all have come, and count the rows."""
    out.parent.mkdir(parents=True, exist_ok=True)
    rows = 0
    with durable_file(out.resolve()) as file, pq.ParquetWriter(file, SCHEMA) as writer:
        for table in tables:
            writer.write_table(table)
            rows += table.num_rows
            advance(pc.sum(pc.equal(table["rank"], 1)).as_py() or 0)
    return rows


def _top(scorer: Scorer, exam: Exam, k: int) -> tuple[IntArray, FloatArray]:
    """Rank all posts by a scorer: item rows [Q, k], -1 padded, and their scores."""
    best = np.full((len(exam), k), -1, dtype=np.int64)
    scores = np.full((len(exam), k), np.nan, dtype=np.float32)
    for part in chunks(len(exam), exam.n_items):
        best[part], scores[part] = best_of(exam, scorer, part, k)
    return best, scores


def _values_of(lists: IntArray, rows: IntArray, values: FloatArray) -> FloatArray:
    """Look up the value of each listed post among the candidates; 0 where it was none."""
    same = lists[:, :, None] == rows[:, None, :]  # [Q, k, C]
    place = same.argmax(axis=2)
    found = np.take_along_axis(values, place, axis=1)
    return np.where(same.any(axis=2), found, 0.0).astype(np.float32)


def _table(people: np.ndarray, posts: np.ndarray, best: IntArray, scores: FloatArray) -> pa.Table:
    there = best >= 0
    rank = np.broadcast_to(np.arange(1, best.shape[1] + 1, dtype=np.int32), best.shape)
    owner = np.broadcast_to(np.arange(len(best))[:, None], best.shape)
    columns = [people[owner[there]], posts[best[there]], rank[there], scores[there]]
    return pa.table(
        [pa.array(c, type=f.type) for c, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
    )


def _with_everybody(data: TrainingData, person_ids: IntArray) -> TrainingData:
    """Give every known person a user row, not only those who have acted."""
    viewers = np.sort(person_ids)
    old = data.dataset
    place = np.searchsorted(viewers, old.viewer_ids)
    dataset = replace(
        old,
        viewer_ids=viewers,
        actions=replace(old.actions, user_rows=place[old.actions.user_rows]),
        dislikes=replace(old.dislikes, user_rows=place[old.dislikes.user_rows]),
    )
    return replace(data, dataset=dataset)


def _now(data: Dataset) -> Queries:
    begin, end = data.user_bounds()
    now = int(data.actions.times_us.max(initial=0)) + 1
    users = np.arange(data.n_users, dtype=np.int64)
    return Queries(users, np.full(len(users), now), begin, end, end)
