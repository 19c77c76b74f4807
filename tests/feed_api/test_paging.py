"""Paging: whatever is posted and deleted in between, nothing repeats and nothing is skipped."""

from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

STEPS = st.lists(
    st.tuples(st.integers(1, 7), st.sampled_from(["nothing", "new post", "delete"])),
    min_size=1,
    max_size=6,
)
NUMBERS = count(100)


@pytest.fixture
def world(make_api):
    return make_api(posts=12)


@given(steps=STEPS)
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_pages_are_the_snapshot_less_what_was_deleted(world, steps):
    for _ in steps:
        world.put_post(f"p-{next(NUMBERS)}")
    snapshot = [item["post_id"] for item in world.feed("ann", limit=50)["items"]]
    seen, cursors, deleted, query = [], [], set(), {}
    for limit, change in steps:
        page = world.feed("ann", limit=limit, **query)
        seen += [(item["position"], item["post_id"]) for item in page["items"]]
        if change == "new post":
            world.put_post(f"p-{next(NUMBERS)}")
        if change == "delete":
            victim = snapshot[(len(seen) + 1) % len(snapshot)]
            world.ask("DELETE", f"/v1/platform/posts/{victim}")
            deleted.add(victim)
        if page["next"] is None:
            break
        cursors.append(page["next"])
        query = {"cursor": page["next"]}
    assert len(set(cursors)) == len(cursors)
    positions = [position for position, _ in seen]
    assert positions == sorted(set(positions))
    assert all(snapshot[position] == post for position, post in seen)
    reach = positions[-1] + 1 if positions else 0
    skipped = set(range(reach)) - set(positions)
    assert {snapshot[position] for position in skipped} <= deleted
