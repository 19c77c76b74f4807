"""Published splits: files read as their sources cut them, nothing lost between the parts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import InvalidInput
from training.dataset import Ragged
from training.protocols.readers import read_sequences, read_social
from training.protocols.sets import SETS
from training.protocols.split import (
    Split,
    from_pairs,
    hold_out,
    joined,
    leave_one_out,
    renumbered,
)

LISTS = st.lists(st.lists(st.integers(0, 30), max_size=9, unique=True), min_size=1, max_size=12)


def ragged(lists: list[list[int]]) -> Ragged:
    values = np.array([item for one in lists for item in one], dtype=np.int64)
    return Ragged(values, np.cumsum([0, *map(len, lists)]).astype(np.int64))


def lists_of(lists: Ragged) -> list[list[int]]:
    return [part.tolist() for part in np.split(lists.values, lists.offsets[1:-1])]


def split_of(lists: list[list[int]]) -> Split:
    return Split("made", 31, ragged(lists), ragged(lists), ragged([[]] * len(lists)))


@given(LISTS, st.floats(0, 0.9), st.integers(0, 5))
def test_what_is_held_out_and_what_stays_make_the_whole(lists, share, seed):
    cut = hold_out(split_of(lists), share, seed)
    for whole, stays, goes in zip(lists, lists_of(cut.learned), lists_of(cut.targets), strict=True):
        assert sorted(stays + goes) == sorted(whole)
        assert [item for item in whole if item in stays] == stays  # in order
        assert stays or not whole
        assert abs(len(goes) - share * len(whole)) <= 1.0
    assert cut.asked is cut.learned
    assert lists_of(hold_out(split_of(lists), share, seed).targets) == lists_of(cut.targets)


@given(LISTS)
def test_leave_one_out_cuts_the_last_two(lists):
    learned, before, last = map(lists_of, leave_one_out(ragged(lists)))
    for whole, early, second, end in zip(lists, learned, before, last, strict=True):
        assert early + second + end == whole
        assert end == whole[-1:]
        assert second == whole[-2:-1]
    assert lists_of(joined(ragged(lists), ragged(lists))) == [one + one for one in lists]


def test_pairs_in_any_order_keep_theirs_within_a_person():
    people, items = np.array([2, 0, 2, 0]), np.array([5, 1, 3, 9])
    assert lists_of(from_pairs(people, items, 4)) == [[1, 9], [], [5, 3], []]


def test_sequences_are_known_up_to_the_second_last_at_the_test(tmp_path: Path) -> None:
    (tmp_path / "Beauty.txt").write_text("1 3 1 2 4\n2 2 5 1\n")
    (tmp_path / "Beauty_item2attributes.json").write_text('{"3": [0, 2], "5": [1]}')
    split = read_sequences(tmp_path, "Beauty.txt")
    assert lists_of(split.learned) == [[2, 0], [1]]
    assert lists_of(split.asked) == [[2, 0, 1], [1, 4]]
    assert lists_of(split.targets) == [[3], [0]]
    (validation,) = split.validations
    assert validation.learned is split.learned
    assert lists_of(validation.targets) == [[1], [4]]
    assert split.described is not None
    assert split.described.tolist() == [[-1, 2, 0], [-1, 2, 2], [-1, 4, 1]]


def test_social_pairs_come_with_their_graph(tmp_path: Path) -> None:
    (tmp_path / "train_set.txt").write_text("user,item\n1,0\n0,2\n1,2\n")
    (tmp_path / "test_set.txt").write_text("user,item\n0,1\n")
    (tmp_path / "trust.txt").write_text("user,friend\n0,3\n")
    split = read_social(tmp_path)
    assert (split.n_people, split.n_items) == (4, 3)
    assert split.friends is not None
    assert split.friends.toarray()[0].tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("line", ["1 two 3", "1,2"])
def test_a_broken_line_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "ml-1m.txt").write_text(f"1 1\n{line}\n")
    with pytest.raises(InvalidInput, match=r"ml-1m.txt, line 2"):
        read_sequences(tmp_path, "ml-1m.txt")


@given(LISTS, st.integers(0, 3))
def test_renumbering_items_changes_nothing_but_their_numbers(lists, seed):
    split = split_of(lists)
    described = np.array([[-1, item, 7] for item in range(31)])
    whole = replace(
        split,
        asked=split.learned,
        described=described,
        validations=(hold_out(split), hold_out(split, seed=1)),
    )
    moved = renumbered(whole, seed)
    place = moved.described[:, 1]
    assert sorted(place) == list(range(31))
    assert moved.asked is moved.learned
    for cut, old in zip((moved, *moved.validations), (whole, *whole.validations), strict=True):
        for new, before in ((cut.learned, old.learned), (cut.targets, old.targets)):
            assert (new.values == place[before.values]).all()
            assert (new.offsets == before.offsets).all()


@pytest.mark.parametrize(
    ("name", "people", "items", "learned", "targets"),
    [
        ("lastfm", 1892, 17632, 74_267, 18_567),
        ("gowalla", 29_858, 40_981, 810_128, 217_242),
        ("beauty", 22_363, 12_101, 153_776, 22_363),
        ("ml-1m", 6040, 3416, 999_611 - 2 * 6040, 6040),
    ],
)
def test_public_sets_have_their_documented_sizes(
    data_dir: Path, name: str, people: int, items: int, learned: int, targets: int
) -> None:
    split = SETS[name].read(data_dir / SETS[name].folder)
    assert (split.n_people, split.n_items) == (people, items)
    assert (len(split.learned.values), len(split.targets.values)) == (learned, targets)
