"""Every feed has a record, its pages stand beside it, and people who are erased leave it."""

from time import monotonic, sleep

import numpy as np
import pyarrow as pa
import pytest

from contracts.clock import now_us, to_datetime
from contracts.degrade import DegradeLevel, DegradeReason
from contracts.errors import CursorExpired
from contracts.events import EVENT_SCHEMA, EventType
from contracts.ids import FeedId, UserId
from contracts.query import FeedQuery
from contracts.record import RECORD_SCHEMA
from contracts.settings import Settings
from features.workspace import Workspace
from pipelines.replay import check
from serving.opening import open_service
from serving.records import keeping as record_keeping
from serving.records.codec import record_digest
from serving.records.erasure import NOBODY
from serving.shelves import Shelves

NO_TIME = {"feed_budget_ms": 0.001}


@pytest.fixture
def workspace(small_home_copy):
    with Workspace.open(small_home_copy) as opened:
        yield opened


@pytest.fixture
def service(workspace):
    opened = open_service(workspace, Settings(home=workspace.home).unhurried())
    yield opened
    opened.close()


def people(workspace, count=8):
    log = workspace.log.scan(columns=["viewer_id"]).column("viewer_id").to_numpy()
    found, counts = np.unique(log, return_counts=True)
    return found[np.argsort(-counts)][:count].tolist()


def ask(viewer_id, feed_id, limit=20):
    return FeedQuery(FeedId(feed_id), UserId(viewer_id), now_us(), limit)


def event(kind, person, **columns):
    at = to_datetime(now_us())
    row = {
        "event_id": 10**15 + now_us() % 10**12, "type": int(kind), "viewer_id": person,
        "event_time": at, "known_time": at, "known_assumed": True, **columns,
    }  # fmt: skip
    return pa.Table.from_pylist([row], schema=EVENT_SCHEMA)


def test_a_feed_that_was_not_ranked_has_a_record_that_pages_and_replays(workspace):
    viewer = people(workspace)[0]
    hurried = open_service(
        workspace, Settings(home=workspace.home).unhurried().model_copy(update=NO_TIME)
    )
    first = hurried.open(ask(viewer, 5))
    assert first.level in {DegradeLevel.FOLLOWING, DegradeLevel.TRENDING}
    later = hurried.page(5, viewer, 20, 20)
    hurried.close()
    calm = open_service(workspace, Settings(home=workspace.home).unhurried())
    record = calm._records.find(5)
    assert record["scorer"] == "none"
    assert record["level"] == first.level
    assert record["reasons"] == list(first.degrade_reasons)
    assert len(record["pool_ids"]) == 0
    served = [item.post_id for item in (*first.items, *later.items)]
    assert record["reserve_ids"][: len(served)].tolist() == served
    assert check(record, Shelves(workspace.home)).outcome == "fallback"
    again = calm.page(5, viewer, 20, 20)  # after a restart, from the record alone
    assert again == later
    assert DegradeReason.FEED_DEADLINE in again.degrade_reasons
    calm.close()


def test_later_pages_are_written_with_their_gaps(workspace, service):
    viewer = people(workspace)[0]
    first = service.open(ask(viewer, 5, limit=5))
    second = service.page(5, viewer, 5, 5)
    gone = service.page(5, viewer, 10, 5).items[2].post_id
    workspace.write(event(EventType.POST_DELETED, -1, post_id=gone), deleted_posts=[gone])
    assert service.wait_applied(workspace.log.last_seq, 5.0)
    third = service.page(5, viewer, 10, 5)
    with pytest.raises(CursorExpired):
        service.page(5, viewer + 1, 5, 5)
    service._records.flush()
    pages = service._records.find(5)["pages"]
    assert [page["offset"] for page in pages] == [5, 10, 10]
    assert pages[0]["posts"].tolist() == [item.post_id for item in second.items]
    assert pages[2]["posts"].tolist() == [item.post_id for item in third.items]
    assert [page["gaps"] for page in pages] == [0, 0, 1]
    assert gone not in pages[2]["posts"]
    assert first.gaps == 0
    assert pages[2]["log_seq"] == workspace.log.last_seq


def still_named(service, erased: list[int]) -> bool:
    """Tell whether a record is of one of them, or names them."""
    found = [record for n in range(8) if (record := service._records.find(100 + n))]
    return any(
        record["viewer_id"] in erased or np.isin(erased, record["authors"]).any()
        for record in found
    )


def test_erased_people_leave_the_records_and_those_replay(workspace, service, monkeypatch):
    monkeypatch.setattr(record_keeping, "_OTHERS_SECONDS", 0.0)
    everybody = people(workspace)
    for number, viewer in enumerate(everybody):
        service.open(ask(viewer, 100 + number))
    service._records.flush()
    service._keeper.seal(keep=4)
    service.page(100, everybody[0], 20, 20)
    named = np.concatenate([service._records.find(100 + n)["authors"] for n in range(8)])
    authors, times = np.unique(named[named >= 0], return_counts=True)
    erased = [everybody[0], int(authors[np.argmax(times * (authors != everybody[0]))])]
    for person in erased:
        workspace.write(event(EventType.PERSON_ERASED, person), erased_people=[person])
    assert service.wait_applied(workspace.log.last_seq, 5.0)
    deadline = monotonic() + 20.0
    while still_named(service, erased) and monotonic() < deadline:
        sleep(0.1)
    left = [record for n in range(8) if (record := service._records.find(100 + n))]
    own = erased[1] in everybody
    assert len(left) == 7 - own
    shelves = Shelves(workspace.home)
    outcomes = [check(record, shelves).outcome for record in left]
    assert set(outcomes) <= {"erased", "identical"}
    assert "erased" in outcomes
    for record, outcome in zip(left, outcomes, strict=True):
        assert not np.isin(erased, record["authors"]).any()
        assert not np.isin(erased, record["reason_refs"]).any()
        assert (record["blanked"] > 0) == (outcome == "erased")
        assert (record["authors"] >= NOBODY - 1).any() == (record["blanked"] > 0)
        assert record_digest(record, RECORD_SCHEMA) == record["digest"]
    assert not service._records.archive.ask(
        "SELECT count(*) FROM pages WHERE viewer_id = ?", (everybody[0],)
    )[0][0]


def test_who_comes_back_after_an_erasure_is_recorded_anew(workspace, service, monkeypatch):
    monkeypatch.setattr(record_keeping, "_OTHERS_SECONDS", 0.0)
    viewer = people(workspace)[0]
    service.open(ask(viewer, 1))
    workspace.write(event(EventType.PERSON_ERASED, viewer), erased_people=[viewer])
    assert service.wait_applied(workspace.log.last_seq, 5.0)
    service.open(ask(viewer, 2))
    service._records.flush()
    deadline = monotonic() + 20.0
    while service._records.find(1) is not None and monotonic() < deadline:
        sleep(0.1)
    assert service._records.find(1) is None
    assert service._records.find(2) is not None


def test_an_erasure_while_nothing_served_is_made_up_for_at_the_next_start(workspace, monkeypatch):
    monkeypatch.setattr(record_keeping, "_OTHERS_SECONDS", 0.0)
    viewer = people(workspace)[0]
    first = open_service(workspace, Settings(home=workspace.home).unhurried())
    first.open(ask(viewer, 1))
    first.close()
    workspace.write(event(EventType.PERSON_ERASED, viewer), erased_people=[viewer])
    second = open_service(workspace, Settings(home=workspace.home).unhurried())
    deadline = monotonic() + 20.0
    while second._records.find(1) is not None and monotonic() < deadline:
        sleep(0.1)
    assert second._records.find(1) is None
    second.close()


def test_the_health_counts_records_and_their_loss(workspace, service):
    service.open(ask(people(workspace)[0], 1))
    service._records.flush()
    health = service.health()
    assert (health["records_written"], health["records_lost"]) == (1, 0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_service_whose_record_writer_died_is_not_ready(workspace, service):
    """An error that nobody foresaw ends the thread: what is served then is not recorded."""

    def unforeseen():
        raise ImportError("no such module")

    assert service.health()["ready"]
    service._records.put(unforeseen)
    service._records._thread.join(5.0)
    assert not service.health()["ready"]
