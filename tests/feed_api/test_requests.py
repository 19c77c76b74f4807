"""Broken requests: each kind has its status, its type and a message that says what to do."""

import json
from typing import Any, NamedTuple

import pytest

from feed_api.problems import PROBLEM_TYPES

FEED, EVENTS, RANK = "/v1/platform/feed", "/v1/platform/events", "/v1/platform/rank"
POST = "/v1/platform/posts/p-1"
LIKE = {"viewer": "ann", "type": "like", "post": "p-1"}
JSON = {"content-type": "application/json"}


class Broken(NamedTuple):
    """A request, and the answer that it should get."""

    kind: str
    method: str
    path: str
    sent: dict[str, Any]
    status: int
    type: str
    says: str


TABLE = [
    Broken("no viewer", "GET", FEED, {}, 400, "invalid-input", "query.viewer: Field required"),
    Broken(
        "limit 0", "GET", FEED, {"params": {"viewer": "ann", "limit": 0}}, 400, "invalid-input",
        "query.limit: Input should be greater than or equal to 1",
    ),
    Broken(
        "limit 101", "GET", FEED, {"params": {"viewer": "ann", "limit": 101}}, 400,
        "invalid-input", "query.limit: Input should be less than or equal to 100",
    ),
    Broken(
        "limit in words", "GET", FEED, {"params": {"viewer": "ann", "limit": "ten"}}, 400,
        "invalid-input", "query.limit: Input should be a valid integer",
    ),
    Broken(
        "unknown parameter", "GET", FEED, {"params": {"viewer": "ann", "lmit": 3}}, 400,
        "invalid-input", "query.lmit: Extra inputs are not permitted",
    ),
    Broken(
        "garbled cursor", "GET", FEED, {"params": {"viewer": "ann", "cursor": "abc"}}, 400,
        "cursor-invalid", "take it from `next`",
    ),
    Broken(
        "control character in an id", "GET", FEED, {"params": {"viewer": "a\x00b"}}, 400,
        "invalid-input", "query.viewer: String should match pattern",
    ),
    Broken(
        "id too long", "GET", FEED, {"params": {"viewer": "a" * 201}}, 400, "invalid-input",
        "query.viewer: String should have at most 200 characters",
    ),
    Broken("unknown path", "GET", "/v1/platform/feeds", {}, 404, "not-found", "nothing here"),
    Broken("wrong method", "POST", FEED, {}, 405, "method-not-allowed", "does not know the method"),
    Broken("no body", "POST", EVENTS, {"headers": JSON}, 400, "invalid-input", "body: Field"),
    Broken(
        "broken JSON", "POST", EVENTS, {"content": b'{"events": [', "headers": JSON}, 400,
        "malformed-body", "no JSON at character",
    ),
    Broken(
        "not UTF-8", "POST", EVENTS, {"content": b'{"events": "\xff"}', "headers": JSON}, 400,
        "malformed-body", "could not be read as JSON",
    ),
    Broken(
        "JSON too deep", "POST", EVENTS, {"content": b"[" * 100_000, "headers": JSON}, 400,
        "malformed-body", "could not be read as JSON",
    ),
    Broken(
        "another media type", "POST", EVENTS, {"content": b"viewer=ann"}, 415,
        "unsupported-media-type", "Content-Type: application/json",
    ),
    Broken(
        "body too large", "POST", EVENTS, {"content": b" " * (1 << 20) + b"{}", "headers": JSON},
        413, "too-large", "over 1048576 bytes",
    ),
    Broken(
        "a list as body", "POST", EVENTS, {"json": [LIKE]}, 400, "invalid-input",
        "body: Input should be a valid dictionary",
    ),
    Broken(
        "no events", "POST", EVENTS, {"json": {"events": []}}, 400, "invalid-input",
        "body.events: List should have at least 1 item",
    ),
    Broken(
        "too many events", "POST", EVENTS, {"json": {"events": [LIKE] * 1001}}, 400,
        "invalid-input", "body.events: List should have at most 1000 items",
    ),
    Broken(
        "unknown field beside events", "POST", EVENTS, {"json": {"events": [LIKE], "dry": True}},
        400, "invalid-input", "body.dry: Extra inputs are not permitted",
    ),
    Broken(
        "unknown wait", "POST", EVENTS, {"json": {"events": [LIKE]}, "params": {"wait": "seen"}},
        400, "invalid-input", "query.wait: Input should be 'applied'",
    ),
    Broken(
        "bad Idempotency-Key", "POST", EVENTS,
        {"json": {"events": [LIKE]}, "headers": {"Idempotency-Key": "a b"}}, 400,
        "invalid-input", "1 to 255 visible ASCII characters",
    ),
    Broken("text missing", "PUT", POST, {"json": {}}, 400, "invalid-input", "body.text: Field"),
    Broken(
        "number as id", "PUT", POST, {"json": {"text": "a", "author": 7}}, 400, "invalid-input",
        "body.author: Input should be a valid string",
    ),
    Broken(
        "unknown field of a post", "PUT", POST, {"json": {"text": "a", "deleted": True}}, 400,
        "invalid-input", "body.deleted: Extra inputs are not permitted",
    ),
    Broken(
        "time without a zone", "PUT", POST,
        {"json": {"text": "a", "created": "2026-11-24T10:00:00"}}, 400, "invalid-input",
        "body.created: Input should have timezone info",
    ),
    Broken(
        "time as a number", "PUT", POST, {"json": {"text": "a", "created": 1700000000}}, 400,
        "invalid-input", "RFC 3339 text with a zone",
    ),
    Broken(
        "time to come", "PUT", POST, {"json": {"text": "a", "created": "2999-01-01T00:00:00Z"}},
        400, "invalid-input", "created: between 1970 and 5 minutes from now",
    ),
    Broken(
        "half a character", "PUT", POST,
        {"content": b'{"text": "\\ud800", "x\\ud800": 1}', "headers": JSON}, 400,
        "invalid-input", "unable to parse raw data as a unicode string",
    ),
    Broken(
        "a language that is none", "PUT", POST, {"json": {"text": "a", "language": "english!"}},
        400, "invalid-input", "body.language: String should match pattern",
    ),
    Broken(
        "too many topics", "PUT", POST, {"json": {"text": "a", "topics": ["t"] * 33}}, 400,
        "invalid-input", "body.topics: List should have at most 32 items",
    ),
    Broken(
        "an attribute that is no scalar", "PUT", "/v1/platform/people/ann",
        {"json": {"attributes": {"x": [1]}}}, 400, "invalid-input", "body.attributes.x",
    ),
    Broken(
        "an attribute beyond 64 bits", "PUT", "/v1/platform/people/ann",
        {"json": {"attributes": {"x": 2**70}}}, 400, "invalid-input", "attributes: Integer exceeds",
    ),
    Broken(
        "an attribute that is no text", "PUT", "/v1/platform/people/ann",
        {"content": b'{"attributes": {"x": "\\ud800"}}', "headers": JSON}, 400, "invalid-input",
        "attributes",
    ),
    Broken(
        "following oneself", "PUT", "/v1/platform/follows/ann/ann", {}, 422, "unprocessable",
        "nobody can follow themselves",
    ),
    Broken(
        "unknown kind of block", "PUT", "/v1/platform/blocks/ann/bob",
        {"params": {"kind": "ban"}}, 400, "invalid-input", "query.kind: Input should be 'block' or",
    ),
    Broken(
        "deleting what never was", "DELETE", "/v1/platform/posts/p-none", {}, 404, "not-found",
        "there is nothing here for you",
    ),
    Broken(
        "why of a garbled feed", "GET", "/v1/platform/feed/xyz/why/p-1", {}, 404, "not-found",
        "there is nothing here for you",
    ),
    Broken(
        "nothing to rank", "POST", RANK, {"json": {"viewer": "ann", "posts": []}}, 400,
        "invalid-input", "body.posts: List should have at least 1 item",
    ),
    Broken(
        "too much to rank", "POST", RANK, {"json": {"viewer": "ann", "posts": ["p-1"] * 2001}},
        400, "invalid-input", "body.posts: List should have at most 2000 items",
    ),
    Broken(
        "limit as text", "POST", RANK,
        {"json": {"viewer": "ann", "posts": ["p-1"], "limit": "3"}}, 400, "invalid-input",
        "body.limit: Input should be a valid integer",
    ),
]  # fmt: skip


@pytest.fixture(scope="module")
def shared(make_api_of_module):
    return make_api_of_module(posts=1)


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.kind)
def test_broken_requests_are_told_what_is_wrong(shared, case):
    answer = shared.ask(case.method, case.path, **case.sent)
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (case.status, case.type), answer.text
    assert case.says in problem["detail"]
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["status"] == case.status
    assert problem["title"] == PROBLEM_TYPES[case.type].title
    assert problem["instance"] == case.path
    assert problem["request_id"] == answer.headers["x-request-id"]


def test_a_wrong_method_names_the_right_ones(shared):
    assert shared.ask("POST", FEED).headers["allow"] == "GET"


def test_each_error_is_listed_and_no_value_is_told_back(shared):
    body = {"text": 7, "author": "sesame" * 100, "language": "sesame", "sesame": 1}
    problem = shared.ask("PUT", POST, json=body).json()
    fields = [error["field"] for error in problem["errors"]]
    assert fields == ["body.text", "body.author", "body.language", "body.sesame"]
    assert problem["detail"].endswith("and 3 more")
    assert "sesamesesame" not in json.dumps(problem)


def test_a_body_of_unknown_length_is_cut_off_at_the_limit(shared):
    async def send(client):
        async def parts():
            for _ in range(40):
                yield b" " * 32768

        return await client.post(EVENTS, content=parts(), headers=JSON)

    answer = shared.run(send)
    assert (answer.status_code, answer.json()["type"]) == (413, "too-large")


def test_a_request_id_that_is_sane_is_kept(shared):
    given = {"X-Request-Id": "trace-7.a_B"}
    assert shared.ask("GET", "/healthz", headers=given).headers["x-request-id"] == "trace-7.a_B"
    for wrong in ("", "a b", "x" * 65, "a\tb"):
        made = shared.ask("GET", "/healthz", headers={"X-Request-Id": wrong}).headers[
            "x-request-id"
        ]
        assert made != wrong
        assert len(made) == 16
