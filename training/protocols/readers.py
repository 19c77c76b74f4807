"""Reads the files of published splits, each as its source cut it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from scipy.sparse import csr_array

from contracts.errors import InvalidInput
from models.base import IntArray
from training.protocols.spectral import directions
from training.protocols.split import (
    Split,
    from_pairs,
    hold_out,
    hold_out_near,
    joined,
    leave_one_out,
    read_lightgcn,
)

_CUTS: Final = 3
"""Validation cuts of a small set: weights chosen on one of them are mostly luck."""


def read_social(folder: Path) -> Split:
    """Read `train_set.txt`, `test_set.txt` and `trust.txt`, pairs under a head (SocialLGN)."""
    train, test = _pairs(folder / "train_set.txt"), _pairs(folder / "test_set.txt")
    trust = _pairs(folder / "trust.txt")
    people = int(max(train[:, 0].max(), test[:, 0].max(), trust.max())) + 1
    ones = np.ones(len(trust), dtype=np.float32)
    friends = csr_array((ones, (trust[:, 0], trust[:, 1])), shape=(people, people))
    friends.data[:] = 1.0
    n_items = int(max(train[:, 1].max(), test[:, 1].max())) + 1
    known = from_pairs(train[:, 0], train[:, 1], people)
    targets = from_pairs(test[:, 0], test[:, 1], people)
    split = Split(folder.name, n_items, known, known, targets, friends, _tags(folder))
    return replace(split, validations=tuple(hold_out(split, seed=n) for n in range(_CUTS)))


def read_sequences(folder: Path, file: str) -> Split:
    """Read a file of everybody's actions in time order: leave one out (SASRec, S3Rec).

    Either a line a pair (`ml-1m.txt`) or a line a person (`Beauty.txt`, with its attributes).
    Models learn from all but the last two of each person; the second last is known at the test.
    """
    path = folder / file
    pairs = read_lightgcn(path)[0] - 1
    n_people, n_items = (pairs.max(axis=0) + 1).tolist()
    whole = from_pairs(pairs[:, 0], pairs[:, 1], n_people)
    learned, before, last = leave_one_out(whole)
    described = _attributes(folder / f"{path.stem}_item2attributes.json")
    first = Split(folder.name, n_items, learned, learned, before, None, described)
    asked = joined(learned, before)
    return Split(folder.name, n_items, learned, asked, last, None, described, (first,))


def read_lists(folder: Path) -> Split:
    """Read `train.txt` and `test.txt`, a line a person and their items (LightGCN).

    The test's items lie together more than a uniform draw's: so do those held out for validation.
    """
    train, test = (read_lightgcn(folder / name)[0] for name in ("train.txt", "test.txt"))
    n_people, n_items = (np.maximum(train.max(axis=0), test.max(axis=0)) + 1).tolist()
    known = from_pairs(train[:, 0], train[:, 1], n_people)
    targets = from_pairs(test[:, 0], test[:, 1], n_people)
    split = Split(folder.name, n_items, known, known, targets)
    return replace(split, validations=(hold_out_near(split, directions(split)),))


def _pairs(path: Path) -> IntArray:
    """Read comma-separated pairs under a head line, [n, 2], each pair once."""
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    if not lines:
        raise InvalidInput(f"{path} holds no pairs", hint="get the file again")
    try:
        pairs = np.loadtxt(lines, delimiter=",", dtype=np.int64, ndmin=2)
    except ValueError as error:
        raise InvalidInput(f"{path}: {error}", hint="get the file again") from None
    return np.unique(pairs, axis=0)


def _attributes(path: Path) -> IntArray | None:
    """Read item -> attribute numbers as triples of nobody in particular."""
    if not path.exists():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    rows = [(-1, int(item) - 1, value) for item, values in found.items() for value in values]
    return np.array(rows, dtype=np.int64).reshape(-1, 3)


def _tags(folder: Path) -> IntArray | None:
    """Read who tagged which artist with what (HetRec Last.fm), in the split's own numbers."""
    path = folder / "user_taggedartists.dat"
    if not path.exists():
        return None
    raw = np.loadtxt(path, skiprows=1, dtype=np.int64, usecols=(0, 1, 2))
    people, items = (
        _renumbered(folder / f"{kind}Reindex.json", raw[:, column])
        for column, kind in enumerate(("user", "item"))
    )
    known = (people >= 0) & (items >= 0)
    return np.stack([people, items, raw[:, 2]], axis=1)[known]


def _renumbered(path: Path, ids: IntArray) -> IntArray:
    table = {int(k): int(v) for k, v in json.loads(path.read_text(encoding="utf-8")).items()}
    return np.array([table.get(number, -1) for number in ids.tolist()], dtype=np.int64)
