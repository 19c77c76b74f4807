"""POST rank and GET why: the caller's candidates, and words for every outcome."""

from contracts.degrade import RemovalReason, SourceName
from contracts.feed import Explanation, ReasonCode
from contracts.ids import Namespace
from feed_api.platform.schemas import RankOut, WhyOut
from feed_api.platform.words import explanation_text, reason_text, removal_text

RANK = "/v1/platform/rank"


def test_candidates_come_back_in_order_and_none_is_lost(api):
    api.ask("DELETE", "/v1/platform/posts/p-2")
    wanted = ["p-1", "p-9", "p-3", "p-2", "p-3", "p-8"]
    answer = api.ask("POST", RANK, json={"viewer": "ann", "posts": wanted}).json()
    RankOut.model_validate(answer)
    assert [(i["position"], i["post_id"]) for i in answer["items"]] == [(0, "p-3"), (1, "p-1")]
    assert answer["removed"] == [{"post_id": "p-2", "reason": "deleted"}]
    assert answer["unknown"] == ["p-9", "p-8"]


def test_a_limit_cuts_the_order_alone(api):
    body = {"viewer": "ann", "posts": ["p-1", "p-2", "p-3", "none"], "limit": 1}
    answer = api.ask("POST", RANK, json=body).json()
    assert [item["post_id"] for item in answer["items"]] == ["p-3"]
    assert answer["unknown"] == ["none"]


def test_candidates_that_nobody_knows_are_an_empty_order(api):
    answer = api.ask("POST", RANK, json={"viewer": "nobody", "posts": ["none"]})
    assert (answer.status_code, answer.json()["items"]) == (200, [])
    assert answer.json()["unknown"] == ["none"]


def test_a_candidate_that_feeds_leave_out_is_not_lost(api):
    api.workspace.ids.intern(Namespace.POST, ["named, but not there"])
    body = {"viewer": "ann", "posts": ["p-1", "named, but not there"]}
    answer = api.ask("POST", RANK, json=body).json()
    assert answer["unknown"] == ["named, but not there"]


def test_why_names_place_sources_and_the_post_ahead(api):
    feed = api.feed("ann")
    answer = api.ask("GET", f"/v1/platform/feed/{feed['feed_id']}/why/p-4").json()
    WhyOut.model_validate(answer)
    assert answer["text"] == (
        "At place 2 of this feed. It was found through new posts. "
        "p-5 stands one place ahead; it is worth 0.25 more."
    )
    assert answer["behind"] == {"post_id": "p-5", "value_before_selection": 0.25}
    assert (answer["outcome"], answer["position"]) == ("served", 1)
    assert answer["probabilities"] == {"like": 0.5}


def test_why_not_has_words_too(api):
    feed = api.feed("ann")
    api.put_post("p-late")
    answer = api.ask("GET", f"/v1/platform/feed/{feed['feed_id']}/why/p-late").json()
    assert answer["outcome"] == "not_a_candidate"
    assert answer["text"].startswith("Not in this feed: no source found it")


def test_a_feed_that_nobody_knows_is_not_found(api):
    answer = api.ask("GET", "/v1/platform/feed/0000000000000001/why/p-1")
    assert answer.status_code == 404


def explained(outcome: str, **more: object) -> str:
    position = None if outcome in {"removed", "not_a_candidate"} else 1
    return explanation_text(Explanation(1, 2, outcome, position, **more), "p-4")


def test_every_closed_list_has_words():
    for code in ReasonCode:
        assert reason_text(code, None)
        assert "{" not in reason_text(code, "rivers")
    for removal in RemovalReason:
        assert "the rule" not in removal_text(removal.word)
    for source in SourceName:
        assert f"through {source.value}" not in explained("served", sources=(source.value,))


def test_each_outcome_reads_as_a_sentence():
    assert explained("removed", removed_by="seen") == "Not in this feed: the viewer has seen it."
    assert explained("reserve").startswith("At place 2, behind the part")
    spread = explained("served", behind={"value_before_selection": -0.5})
    assert "worth 0.5 less: authors and topics are spread" in spread
    two = explained("served", sources=("fresh", "trending"))
    assert "found through new posts and what is trending." in two
