"""A published split: what models may learn, what is known when they are asked, what comes next."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array

from contracts.errors import InvalidInput
from models.base import FloatArray, IntArray
from training.dataset import Ragged


@dataclass(frozen=True, slots=True)
class Split:
    """One cut of a set; a list of items a person in every ragged field."""

    name: str
    n_items: int
    learned: Ragged
    """What models learn from, oldest first where the source has an order."""
    asked: Ragged
    """What is known at the moment of asking; never ranked again."""
    targets: Ragged
    friends: csr_array | None = None
    """[people, people], 1 where the first trusts the second."""
    described: IntArray | None = None
    """[n, 3] of (person, item, attribute); a person of -1 is nobody in particular."""
    validations: tuple["Split", ...] = ()
    """Cuts of the same kind one step earlier, to choose on; none in a validation cut itself."""

    @property
    def n_people(self) -> int:
        """Count the people."""
        return len(self.learned.offsets) - 1

    def matrix(self) -> csr_array:
        """Spread what may be learned over [people, items], 1 where somebody acted."""
        return binary(self.learned, self.n_items)


def binary(lists: Ragged, n_items: int) -> csr_array:
    """Spread lists over [len, n_items] as float32, each item counted once."""
    ones = np.ones(len(lists.values), dtype=np.float32)
    shape = (len(lists.offsets) - 1, n_items)
    matrix = csr_array((ones, lists.values.astype(np.int32), lists.offsets), shape=shape)
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix


def from_pairs(people: IntArray, items: IntArray, n_people: int) -> Ragged:
    """Gather the items of each person from pairs in any order; pairs keep theirs."""
    order = np.argsort(people, kind="stable")
    counts = np.bincount(people, minlength=n_people)
    return Ragged(items[order], np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))


def renumbered(split: Split, seed: int = 0) -> Split:
    """Give the items numbers in a seeded random order, so that a tie is broken by chance.

    A source's own numbers may know who met an item first: an order by them leaks.
    """
    place = np.random.Generator(np.random.PCG64(seed)).permutation(split.n_items)
    moved: dict[int, Ragged] = {}

    def lists(old: Ragged) -> Ragged:  # lists that are one stay one
        return moved.setdefault(id(old), Ragged(place[old.values], old.offsets))

    def cut(old: Split) -> Split:
        described = old.described
        if described is not None:
            described = np.stack([described[:, 0], place[described[:, 1]], described[:, 2]], axis=1)
        return replace(
            old,
            learned=lists(old.learned),
            asked=lists(old.asked),
            targets=lists(old.targets),
            described=described,
            validations=tuple(map(cut, old.validations)),
        )

    return cut(split)


def hold_out(split: Split, share: float = 0.1, seed: int = 0) -> Split:
    """Move a share of what each person acted on into the targets of a validation cut.

    The expected number a person is exact: a fraction of an item is drawn for; one always stays.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    lists, counts = split.learned, split.learned.lengths
    moved = (share * counts + generator.random(len(counts))).astype(np.int64)
    moved = np.minimum(moved, np.maximum(counts - 1, 0))
    order = np.lexsort((generator.random(len(lists.values)), lists.owners))
    rank = np.arange(len(order)) - np.repeat(lists.offsets[:-1], counts)
    out = np.zeros(len(order), dtype=bool)
    out[order] = rank < np.repeat(moved, counts)
    known = lists.keep(~out)
    return replace(split, learned=known, asked=known, targets=lists.keep(out), validations=())


def hold_out_near(
    split: Split, vectors: FloatArray, share: float = 0.2, chance: float = 0.3, seed: int = 0
) -> Split:
    """Move items that lie together into the targets: a share of each person's, around one drawn.

    For tests whose items lie together more than a uniform draw's, as places of a later trip do.
    `vectors` [n_items, d], rows of length 1 or 0, say what is near; `chance` is the deviation of
    noise on their cosine: none holds out the nearest, much is a uniform draw.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    lists, counts, owners = split.learned, split.learned.lengths, split.learned.owners
    starts = lists.offsets[:-1]
    middle = starts + (generator.random(len(counts)) * counts).astype(np.int64)
    middle = np.minimum(middle, len(owners) - 1)  # the last people may have no items
    own = vectors[lists.values]
    close = np.einsum("nd,nd->n", own, own[middle[owners]])
    close = close + chance * generator.standard_normal(len(close))
    close[middle[counts > 0]] = np.inf
    order = np.lexsort((-close, owners))
    rank = np.arange(len(owners)) - starts[owners]
    out = np.zeros(len(owners), dtype=bool)
    out[order] = rank < np.floor(share * counts + 0.5)[owners]
    known = lists.keep(~out)
    return replace(split, learned=known, asked=known, targets=lists.keep(out), validations=())


def leave_one_out(lists: Ragged) -> tuple[Ragged, Ragged, Ragged]:
    """Cut each list of three items or more into (all but two, the second last, the last)."""
    behind = np.repeat(lists.offsets[1:], lists.lengths) - np.arange(len(lists.values))  # 1: last
    return lists.keep(behind > 2), lists.keep(behind == 2), lists.keep(behind == 1)


def joined(first: Ragged, second: Ragged) -> Ragged:
    """Append to each list of `first` the list of `second`."""
    people = np.concatenate([first.owners, second.owners])
    items = np.concatenate([first.values, second.values])
    return from_pairs(people, items, len(first.offsets) - 1)


def read_lightgcn(path: Path) -> tuple[IntArray, IntArray]:
    """Read lines of a person and their items: pairs, [n, 2], and the line of each, [n].

    A person alone has none. InvalidInput says which line is not so, or that no line has an item.
    """
    people: list[int] = []
    items: list[int] = []
    lines: list[int] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            person, *rest = map(int, line.split())
        except ValueError:
            msg = f"{path}, line {number}: {line[:40]!r} is not a person and item numbers"
            raise InvalidInput(msg, hint="get the file again") from None
        people += [person] * len(rest)
        lines += [number] * len(rest)
        items += rest
    if not items:
        raise InvalidInput(f"{path} holds no items of anybody", hint="get the file again")
    return np.stack([people, items], axis=1).astype(np.int64), np.array(lines, dtype=np.int64)
