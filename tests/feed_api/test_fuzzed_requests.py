"""Whatever JSON comes in, the answer is one of the documented ones, and never a 5xx."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=12)
NAMES = st.sampled_from(
    ["viewer", "type", "post", "target", "time", "event_id", "feed_id", "position", "value"]
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | ANY_TEXT
    | st.sampled_from(["like", "dwell", "follow", "p-1", "ann", "2026-01-01T00:00:00Z"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=6,
)
ROWS = st.dictionaries(NAMES | ANY_TEXT, VALUES, max_size=9) | VALUES
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def shared(make_api_of_module):
    return make_api_of_module(posts=1)


@given(rows=st.lists(ROWS, min_size=1, max_size=4))
@settings(max_examples=150, deadline=None)
def test_any_rows_are_taken_or_told(shared, rows):
    content = json.dumps({"events": rows}).encode()
    answer = shared.ask("POST", "/v1/platform/events", content=content, headers=JSON)
    body = answer.json()
    assert answer.status_code in {202, 400}, answer.text
    if answer.status_code == 202:
        assert body["accepted"] + body["duplicates"] + len(body["rejected"]) == len(rows)


@given(
    target=st.sampled_from([("POST", "events"), ("POST", "rank"), ("PUT", "posts/p-1")]),
    body=ROWS | st.binary(max_size=30),
)
@settings(max_examples=150, deadline=None)
def test_any_body_has_an_answer(shared, target, body):
    method, path = target
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = shared.ask(method, f"/v1/platform/{path}", content=content, headers=JSON)
    assert answer.status_code in {200, 201, 202, 204, 400}, answer.text


@given(query=st.dictionaries(st.sampled_from(["viewer", "limit", "cursor", "x"]), ANY_TEXT))
@settings(max_examples=100, deadline=None)
def test_any_query_has_an_answer(shared, query):
    clean = {name: text.encode("utf-8", "replace").decode() for name, text in query.items()}
    answer = shared.ask("GET", "/v1/platform/feed", params=clean)
    assert answer.status_code in {200, 400}, answer.text
