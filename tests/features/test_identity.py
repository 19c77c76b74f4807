"""The id table: both ways, over processes, namespaces apart, hashes equal to the contract's."""

import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import Conflict, NotFound
from contracts.ids import UNKNOWN_ID, Namespace, hash63
from features.identity import event_ids_of
from features.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path):
    with Workspace.open(tmp_path / "home") as opened:
        yield opened


def test_ids_go_both_ways_and_repeat(workspace: Workspace):
    ids = workspace.ids.intern(Namespace.PERSON, ["ann", "bob", "ann"])
    assert ids.tolist() == [1, 2, 1]
    assert workspace.ids.intern(Namespace.PERSON, ["cy", "bob"]).tolist() == [3, 2]
    assert workspace.ids.external(Namespace.PERSON, ids) == ["ann", "bob", "ann"]
    assert workspace.ids.lookup(Namespace.PERSON, ["bob", "dan"]).tolist() == [2, UNKNOWN_ID]


def test_namespaces_are_apart(workspace: Workspace):
    person = workspace.ids.intern(Namespace.PERSON, ["1"])
    post = workspace.ids.intern(Namespace.POST, ["1"])
    assert person[0] != post[0]
    assert workspace.ids.lookup(Namespace.TOPIC, ["1"]).tolist() == [UNKNOWN_ID]
    with pytest.raises(NotFound, match="no topic has the internal id 1"):
        workspace.ids.external(Namespace.TOPIC, person)


def test_all_is_in_order_of_creation(workspace: Workspace):
    workspace.ids.intern(Namespace.POST, ["z", "a"])
    workspace.ids.intern(Namespace.PERSON, ["between"])
    workspace.ids.intern(Namespace.POST, ["m"])
    ids, names = workspace.ids.all(Namespace.POST)
    assert names == ["z", "a", "m"]
    assert (np.diff(ids) > 0).all()


def test_another_opening_finds_new_ids_and_keeps_them(tmp_path: Path):
    with Workspace.open(tmp_path) as writer, Workspace.open(tmp_path, read_only=True) as reader:
        assert reader.ids.lookup(Namespace.POST, ["p"]).tolist() == [UNKNOWN_ID]
        made = writer.ids.intern(Namespace.POST, ["p"])
        assert reader.ids.lookup(Namespace.POST, ["p"]).tolist() == made.tolist()
        assert reader.ids.external(Namespace.POST, made) == ["p"]
        with pytest.raises(Conflict, match="opened for reading"):
            reader.ids.intern(Namespace.POST, ["q"])
    with Workspace.open(tmp_path) as again:
        assert again.ids.intern(Namespace.POST, ["p", "q"]).tolist() == [1, 2]


def test_interning_inside_a_transaction_is_refused(workspace: Workspace):
    with (
        pytest.raises(RuntimeError, match="before the transaction"),
        workspace.log._database.write(),
    ):
        workspace.ids.intern(Namespace.POST, ["p"])
    assert workspace.ids.lookup(Namespace.POST, ["p"]).tolist() == [UNKNOWN_ID]


def test_threads_agree_on_new_ids(workspace: Workspace):
    names = [f"n{i}" for i in range(200)]
    results: list[list[int]] = []

    def intern(order: list[str]) -> None:
        ids = workspace.ids.intern(Namespace.PERSON, order).tolist()
        results.append([dict(zip(order, ids, strict=True))[n] for n in names])

    threads = [threading.Thread(target=intern, args=(names[k:] + names[:k],)) for k in (0, 50, 120)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results[0] == results[1] == results[2]
    assert len(set(results[0])) == 200


def test_many_ids_at_once(workspace: Workspace):
    names = [f"id-{i}" for i in range(50_000)]
    ids = workspace.ids.intern(Namespace.POST, names)
    assert ids.tolist() == list(range(1, 50_001))
    assert workspace.ids.external(Namespace.POST, ids[::1000]) == names[::1000]


@given(st.lists(st.text(max_size=20).filter(lambda s: s.isprintable()), max_size=10))
def test_event_ids_equal_the_contracts_hash(texts: list[str]):
    assert event_ids_of(texts).tolist() == [hash63(text) for text in texts]
