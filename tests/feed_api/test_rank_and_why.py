"""POST rank and GET why: the caller's candidates, and words for every outcome."""

from dataclasses import replace

import pytest

from contracts.degrade import DegradeLevel, RemovalReason, SourceName
from contracts.feed import Explanation, Flip, Placement, ReasonCode, Rival, SourceRank
from contracts.ids import Namespace
from feed_api.platform.schemas import PreviewOut, RankOut, WhyOut
from feed_api.platform.why_words import tell
from feed_api.platform.words import reason_text, removal_text, source_text

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


def test_a_preview_shows_places_before_and_after_a_wish(api):
    api.feed("ann")
    path = "/v1/platform/people/ann/controls/preview"
    answer = api.ask("GET", f"{path}?type=fewer_of_author&post=p-5").json()
    PreviewOut.model_validate(answer)
    moved = {item["post_id"]: (item["before"], item["after"]) for item in answer["items"]}
    assert moved["p-5"] == (0, len(moved) - 1)
    assert moved["p-4"] == (1, 0)
    assert api.ask("GET", f"{path}?type=fewer_of_author&post=none").status_code == 404
    assert api.ask("GET", f"{path}?type=like&post=p-5").status_code == 400


def test_why_names_place_sources_and_the_post_ahead(api):
    feed = api.feed("ann")
    answer = api.ask("GET", f"/v1/platform/feed/{feed['feed_id']}/why/p-4").json()
    WhyOut.model_validate(answer)
    assert answer["text"] == (
        "At place 2 of this feed. It was found through new posts. "
        "Most of its value is the chance of a like (50 %, +1). "
        "“the text of p-5” (p-5) stands one place ahead; it counts 0.25 more. "
        "All of this stands in the feed's record."
    )
    assert answer["behind"] == {"post_id": "p-5", "value_before_selection": 0.25}
    assert (answer["outcome"], answer["position"]) == ("served", 1)
    assert answer["probabilities"] == {"like": 0.5}


def test_why_not_has_words_too(api):
    feed = api.feed("ann")
    api.put_post("p-late")
    answer = api.ask("GET", f"/v1/platform/feed/{feed['feed_id']}/why/p-late").json()
    assert answer["outcome"] == "not_a_candidate"
    assert answer["text"].startswith("Not in this feed: no source brought it up")


def test_a_feed_that_nobody_knows_is_not_found(api):
    answer = api.ask("GET", "/v1/platform/feed/0000000000000001/why/p-1")
    assert answer.status_code == 404


def explained(outcome: str, **more: object) -> str:
    position = 1 if outcome in {"served", "reserve"} else None
    return tell(Explanation(1, 2, outcome, position, **more), {7: "p-4"}).text


def test_every_closed_list_has_words():
    for code in ReasonCode:
        assert reason_text(code, None)
        assert "{" not in reason_text(code, "rivers")
    for removal in RemovalReason:
        assert "the rule" not in removal_text(removal.word)
    for source in SourceName:
        assert source_text(source) != source.value


def test_each_outcome_reads_as_a_sentence():
    assert explained("removed", removed_by="seen").startswith(
        "Not in this feed: the viewer has seen it."
    )
    assert explained("reserve").startswith("At place 2, behind the part")
    behind = {"post_id": "7", "value_before_selection": 0.1, "value_in_place": -0.5}
    assert "though it counts 0.5 less" in explained("served", behind=behind)
    two = explained("served", sources=("fresh", "trending"))
    assert "found through new posts and what is trending." in two
    later = explained("not_a_candidate", note="posted_after")
    assert later == "Not in this feed: it was posted after the feed was made."
    fallback = explained("served", note=DegradeLevel.FOLLOWING.value)
    assert fallback == (
        "At place 2 of this feed; the ranking was out when it was made, "
        "and the newest posts of followed people were shown."
    )


FLIPS = {
    Flip("follow_author", None, None, 0.0, 3): "at place 4, if the viewer followed its author.",
    Flip("weights.comment", 5.0, 7.5, 0.5, 0): "if the chance of a comment weighed 7.5 instead of",
    Flip("blend.deep", 0.3, 0.6, 1.0, 0): "if the viewer's recent actions weighed 0.6 instead",
    Flip("quotas.fresh", 100, 130, 0.3, 0): "if new posts gave 130 instead of 100 posts.",
    Flip("selection.max_per_author", 5, 6, 0.2, 0): "if an author might have 6 instead of 5 posts.",
    Flip("selection.author_decay", 0.75, 1.0, 1.0, 0): "an author's further posts cost nothing.",
    Flip("drop.seen", None, None, None, 0): "if posts that were seen came back.",
    Flip("drop.muted_word", None, None, None, 0): "if the rule muted_word were dropped.",
}


@pytest.mark.parametrize("flip", FLIPS, ids=lambda flip: flip.change)
def test_each_change_reads_as_a_condition(flip):
    assert FLIPS[flip] in explained("outranked", flip=flip, page=20)


def test_why_not_names_rank_rule_rival_and_what_was_computed():
    text = explained(
        "not_a_candidate", page=20, value_now=0.5, would_stand=40, actions_since=2,
        sources_now=(SourceRank("fresh", 150, 100), SourceRank("deep", 900, 300)),
        rules_now=("own",), lost_to=Rival(7, 19, 0.25), bundle_now="other",
    )  # fmt: skip
    assert "It comes nearest through new posts, at rank 150, where 100 are taken." in text
    assert "Now it is the viewer's own post, too." in text
    assert "It would be worth 0.5 and stand at place 41." in text
    assert "The last place of the first page went to p-4, which counts 0.25 more there." in text
    assert "No single change would bring it onto the first page." in text
    assert "by other models than the feed's; 2 events of this viewer have come since." in text


def test_the_lot_and_the_mix_are_named():
    placed = Placement(1, 0.75, 1.0, 1.0, 1.0, drawn=True, propensity=0.2, instead=Rival(7, 4, 0.1))
    text = explained("served", placement=placed, page=20)
    assert "its author standing higher up already (-25 %)" in text
    assert "drawn by lot among the best posts, where it had a chance of 20 %; without" in text
    assert "without the lot p-4 counted 0.1 more." in text
    mixed = explained("served", placement=replace(placed, drawn=False), page=20)
    assert "The balance of followed and other authors asked for it, though p-4" in mixed
