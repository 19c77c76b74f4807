"""Posts, people, follows and blocks: idempotent, one transaction each, told in the log."""

import pytest

from contracts.events import EventType
from contracts.ids import Namespace

POST = "/v1/platform/posts/p-1"
FOLLOW, BLOCK = "/v1/platform/follows/ann/bob", "/v1/platform/blocks/ann/bob"


def kinds_after(api, seq: int) -> list[str]:
    return [EventType(kind).word for kind in api.workspace.log.tail(seq)["type"].to_pylist()]


def stored(api, post: str):
    ids = api.workspace.ids.lookup(Namespace.POST, [post])
    return api.workspace.catalog.posts_by_id(ids).to_pylist()[0]


def test_a_post_is_stored_as_it_was_sent(api):
    created = "2026-01-01T10:00:00+02:00"
    topics = ["rivers", "maps", "rivers"]
    answer = api.put_post("p-new", topics=topics, language="en", created=created)
    assert (answer.status_code, answer.content) == (201, b"")
    row = stored(api, "p-new")
    assert row["created"].isoformat() == "2026-01-01T08:00:00+00:00"
    names = dict(zip(*(list(part) for part in api.workspace.catalog.topics()), strict=True))
    assert [names[topic] for topic in row["topics"]] == ["rivers", "maps"]
    assert (row["author_id"], row["language"]) == (api.person("bob"), "en")
    assert (row["text"], row["deleted"]) == ("the text of p-new", False)


def test_the_same_post_again_changes_nothing(api):
    before = api.workspace.log.last_seq
    assert api.put_post("p-1").status_code == 204
    assert kinds_after(api, before) == []
    assert api.put_post("p-1", text="other").status_code == 204
    assert api.put_post("p-1").status_code == 204
    assert kinds_after(api, before) == ["post_edited", "post_edited"]


def test_an_edit_keeps_when_a_post_was_made(api):
    made = stored(api, "p-1")["created"]
    api.put_post("p-1", text="other")
    assert (stored(api, "p-1")["created"], stored(api, "p-1")["text"]) == (made, "other")


def test_a_post_is_deleted_once_and_can_come_back(api):
    before = api.workspace.log.last_seq
    assert [api.ask("DELETE", POST).status_code for _ in range(2)] == [204, 204]
    assert kinds_after(api, before) == ["post_deleted"]
    assert stored(api, "p-1")["deleted"]
    assert api.put_post("p-1").status_code == 201
    assert kinds_after(api, before) == ["post_deleted", "post_created"]
    assert "p-1" in [item["post_id"] for item in api.feed()["items"]]


def test_a_person_is_stored_as_they_were_sent(api):
    path = "/v1/platform/people/dan"
    body = {"language": "mi", "created": "2026-01-01T00:00:00Z", "attributes": {"b": 1, "a": None}}
    before = api.workspace.log.last_seq
    assert [api.ask("PUT", path, json=body).status_code for _ in range(2)] == [201, 204]
    (row,) = api.workspace.catalog.people_by_id([api.person("dan")]).to_pylist()
    assert (row["language"], row["attributes"]) == ("mi", '{"a":null,"b":1}')
    assert api.ask("PUT", path, json={}).status_code == 204
    (row,) = api.workspace.catalog.people_by_id([api.person("dan")]).to_pylist()
    assert (row["language"], row["attributes"], row["created"].year) == (None, None, 2026)
    assert kinds_after(api, before) == ["person_updated", "person_updated"]


def test_an_erased_person_leaves_no_follow_or_block(api):
    api.ask("PUT", FOLLOW)
    api.ask("PUT", "/v1/platform/blocks/cat/ann")
    before = api.workspace.log.last_seq
    assert api.ask("DELETE", "/v1/platform/people/ann").status_code == 204
    assert kinds_after(api, before) == ["person_erased"]
    counts = api.workspace.catalog.counts()
    assert (counts["follows"], counts["blocks"], counts["people"]) == (0, 0, 2)


@pytest.mark.parametrize(
    ("path", "on", "off"),
    [
        (FOLLOW, "follow", "unfollow"),
        (BLOCK, "block", "unblock"),
        (f"{BLOCK}?kind=mute", "mute", "unmute"),
    ],
)
def test_a_tie_is_made_and_ended_once(api, path, on, off):
    before = api.workspace.log.last_seq
    assert [api.ask("PUT", path).status_code for _ in range(2)] == [201, 204]
    assert [api.ask("DELETE", path).status_code for _ in range(2)] == [204, 204]
    assert kinds_after(api, before) == [on, off]
    counts = api.workspace.catalog.counts()
    assert (counts["follows"], counts["blocks"]) == (0, 0)


def test_ending_a_mute_leaves_the_block(api):
    for kind in ("block", "mute"):
        api.ask("PUT", BLOCK, params={"kind": kind})
    api.ask("DELETE", BLOCK, params={"kind": "mute"})
    assert api.workspace.catalog.blocks()["kind"].to_pylist() == ["block"]


def test_a_tie_with_a_stranger_makes_them_known_and_ending_one_does_not(api):
    assert api.ask("PUT", "/v1/platform/follows/ann/new").status_code == 201
    assert api.person("new") > 0
    problem = api.ask("DELETE", "/v1/platform/follows/ann/stranger")
    assert problem.status_code == 404
    assert api.person("stranger") == -1


def test_whatever_is_absent_has_one_answer(api):
    absent = (
        "posts/none", "people/none", "follows/ann/none", "follows/none/ann", "blocks/none/ann",
    )  # fmt: skip
    answers = [api.ask("DELETE", f"/v1/platform/{path}").json() for path in absent]
    answers.append(api.ask("GET", "/v1/platform/feed/00d2f0c4a1b2c3d4/why/none").json())
    assert {(a["type"], a["title"], a["detail"]) for a in answers} == {
        ("not-found", "There is nothing here for you", "there is nothing here for you")
    }


def test_a_write_says_how_far_the_log_has_come(api):
    answer = api.ask("PUT", FOLLOW, params={"wait": "applied"})
    assert answer.headers["headwater-seq"] == str(api.workspace.log.last_seq)
    assert answer.headers["headwater-applied"] == "true"
