"""POST events: row by row, once each, on disk, and the graph with them."""

from time import monotonic

import pytest

from contracts.clock import now_us, to_datetime
from contracts.events import EventType
from contracts.ids import hash63
from feed_api.platform.schemas import CLIENT_TYPES, SERVER_TYPES

LIKE = {"viewer": "ann", "type": "like", "post": "p-1", "time": "2026-01-01T00:00:00Z"}


def log_of(api, after: int = 0):
    return api.workspace.log.tail(after).to_pylist()


@pytest.fixture(scope="module")
def shared(make_api_of_module):
    return make_api_of_module(posts=2)


def test_an_event_is_stored_as_it_was_sent(api):
    before = api.workspace.log.last_seq
    sent = LIKE | {"event_id": "e-1", "feed_id": "00d2f0c4a1b2c3d4", "position": 3, "value": 0.5}
    answer = api.post(sent)
    assert answer.status_code == 202
    expected = {"accepted": 1, "duplicates": 0, "rejected": [], "seq": before + 1}
    assert answer.json() == expected
    assert answer.headers["headwater-seq"] == str(before + 1)
    (row,) = log_of(api, before)
    assert row["event_id"] == hash63("e-1")
    assert (row["type"], row["viewer_id"]) == (EventType.LIKE, api.person("ann"))
    assert row["event_time"].isoformat() == "2026-01-01T00:00:00+00:00"
    assert abs((row["known_time"] - to_datetime(now_us())).total_seconds()) < 60
    assert (row["feed_id"], row["position"], row["value"]) == (0x00D2F0C4A1B2C3D4, 3, 0.5)
    assert (row["target_id"], row["known_assumed"]) == (None, False)


BAD_ROWS = [
    (7, "Input should be a valid dictionary"),
    ({"viewer": "ann"}, "type: Field required"),
    (LIKE | {"type": "adore"}, "type: 'adore' is none of impression, view, dwell"),
    (LIKE | {"type": "LIKE"}, "type: 'LIKE' is none of"),
    (LIKE | {"extra": 1}, "extra: Extra inputs are not permitted"),
    (LIKE | {"viewer": 5}, "viewer: Input should be a valid string"),
    (LIKE | {"viewer": ""}, "viewer: String should have at least 1 character"),
    (LIKE | {"post": "p-unknown"}, "post: 'p-unknown' is not known; PUT it first"),
    ({"viewer": "ann", "type": "like"}, "post: like needs one"),
    ({"viewer": "ann", "type": "follow"}, "target: follow needs one"),
    ({"viewer": "ann", "type": "follow", "target": "ann"}, "nobody can follow themselves"),
    (LIKE | {"type": "dwell"}, "value: dwell needs milliseconds"),
    (LIKE | {"type": "dwell", "value": -1}, "value: dwell needs milliseconds"),
    (LIKE | {"value": 1e40}, "value: Input should be less than"),
    (LIKE | {"value": "7"}, "value: Input should be a valid number"),
    (LIKE | {"position": -1}, "position: Input should be greater than or equal to 0"),
    (LIKE | {"position": 40_000}, "position: Input should be less than or equal to 32767"),
    (LIKE | {"position": True}, "position: Input should be a valid integer"),
    (LIKE | {"feed_id": "f-1"}, "feed_id: String should match pattern"),
    (LIKE | {"time": "yesterday"}, "time: Value error, a time is RFC 3339 text"),
    (LIKE | {"time": "2026-01-01T00:00:00"}, "time: Input should have timezone info"),
    (LIKE | {"time": 1700000000}, "RFC 3339 text with a zone"),
    (LIKE | {"time": "2999-01-01T00:00:00Z"}, "time: more than 5 minutes in the future"),
    (LIKE | {"time": "1969-12-31T00:00:00Z"}, "time: before 1970"),
]


@pytest.mark.parametrize(("row", "says"), BAD_ROWS, ids=[says for _, says in BAD_ROWS])
def test_a_bad_row_is_told_and_its_neighbours_are_kept(shared, row, says):
    good = [LIKE | {"event_id": f"{row} {k}"} for k in range(2)]
    answer = shared.post(good[0], row, good[1])
    assert answer.status_code == 202
    body = answer.json()
    assert (body["accepted"], body["duplicates"]) == (2, 0)
    assert [rejected["index"] for rejected in body["rejected"]] == [1]
    assert says in body["rejected"][0]["reason"]


@pytest.mark.parametrize("kind", sorted(SERVER_TYPES), ids=lambda kind: kind.word)
def test_what_the_server_writes_can_not_be_posted(shared, kind):
    answer = shared.post({"viewer": "ann", "type": kind.word, "post": "p-1"})
    assert f"{kind.word} is written by the server alone" in answer.json()["rejected"][0]["reason"]
    assert kind not in CLIENT_TYPES


def test_a_batch_of_bad_rows_alone_changes_nothing(shared):
    before = shared.workspace.log.last_seq
    body = shared.post({"viewer": "new one", "type": "adore"}).json()
    assert (body["accepted"], body["seq"], len(body["rejected"])) == (0, before, 1)
    assert shared.person("new one") == -1


def test_an_event_id_counts_once(api):
    first = api.post(LIKE | {"event_id": "e"}, LIKE | {"event_id": "e"})
    assert (first.json()["accepted"], first.json()["duplicates"]) == (1, 1)
    again = api.post(LIKE | {"event_id": "e"})
    assert (again.json()["accepted"], again.json()["duplicates"]) == (0, 1)


def test_a_time_makes_an_event_id_and_so_does_its_absence(api):
    assert api.post(LIKE, LIKE).json()["accepted"] == 2
    assert api.post(LIKE, LIKE).json()["duplicates"] == 2
    timeless = {name: value for name, value in LIKE.items() if name != "time"}
    assert api.post(timeless, timeless).json()["accepted"] == 2
    assert api.post(timeless, timeless).json()["accepted"] == 2


def test_a_clock_a_little_ahead_is_taken_as_now(api):
    ahead = to_datetime(now_us() + 60_000_000).isoformat()
    before = api.workspace.log.last_seq
    assert api.post(LIKE | {"time": ahead}).json()["accepted"] == 1
    (row,) = log_of(api, before)
    assert row["event_time"] == row["known_time"]


def test_new_people_come_with_their_first_event(api):
    assert api.post(LIKE | {"viewer": "dan"}).json()["accepted"] == 1
    assert api.person("dan") > 0


def test_follows_and_blocks_change_the_graph(api):
    act = {"viewer": "ann", "target": "bob"}
    api.post(act | {"type": "follow"}, act | {"type": "mute"}, act | {"type": "block"})
    ann, bob = api.person("ann"), api.person("bob")
    catalog = api.workspace.catalog
    assert catalog.has_follow(ann, bob)
    assert catalog.has_block(ann, bob, "mute")
    assert catalog.has_block(ann, bob, "block")
    api.post(act | {"type": "unfollow"}, act | {"type": "unmute"})
    assert not catalog.has_follow(ann, bob)
    assert not catalog.has_block(ann, bob, "mute")
    assert catalog.has_block(ann, bob, "block")


def test_the_last_word_of_a_batch_counts(api):
    act = {"viewer": "ann", "target": "bob"}
    kinds = ["follow", "unfollow", "follow", "unfollow"]
    api.post(*(act | {"type": kind} for kind in kinds))
    assert not api.workspace.catalog.has_follow(api.person("ann"), api.person("bob"))


def test_a_late_retry_does_not_bring_a_follow_back(api):
    follow = {"viewer": "ann", "target": "bob", "type": "follow", "event_id": "f-1"}
    api.post(follow)
    assert api.ask("DELETE", "/v1/platform/follows/ann/bob").status_code == 204
    assert api.post(follow).json()["duplicates"] == 1
    assert not api.workspace.catalog.has_follow(api.person("ann"), api.person("bob"))


def test_one_can_wait_until_feeds_know(api):
    answer = api.post(LIKE, params={"wait": "applied"})
    assert answer.headers["headwater-applied"] == "true"
    assert "headwater-applied" not in api.post(LIKE).headers
    api.feeds.stuck = True
    start = monotonic()
    answer = api.post(LIKE | {"event_id": "late"}, params={"wait": "applied"})
    assert (answer.status_code, answer.headers["headwater-applied"]) == (202, "false")
    assert 0.9 < monotonic() - start < 3
