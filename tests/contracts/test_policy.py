"""The policy: frozen, hashed, compared leaf by leaf."""

import pytest
from pydantic import ValidationError

from contracts.degrade import DegradeLevel, SourceName, worst
from contracts.ids import feed_id_text, hash63, parse_feed_id
from contracts.policy import Action, Policy, fixed_blend


def test_hash_is_of_the_content_alone():
    first = Policy(name="p", weights={Action.LIKE: 1.0, Action.CLICK: 2.0})
    second = Policy(name="p", weights={Action.CLICK: 2.0, Action.LIKE: 1.0})
    assert first.hash == second.hash
    assert first.hash != Policy(name="p", weights={Action.LIKE: 1.0, Action.CLICK: 2.5}).hash
    assert Policy.model_validate_json(first.canonical()).hash == first.hash


def test_diff_names_each_leaf_that_changes():
    before = Policy(name="p")
    after = before.model_copy(update={"out_of_network": 0.5})
    assert [tuple(change) for change in before.diff(after)] == [("out_of_network", 0.75, 0.5)]
    assert before.diff(before) == []
    paths = {change.path for change in before.diff(fixed_blend())}
    assert {"scorer", "mix.followed_min", "mix.followed_max"} <= paths


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"mix": {"followed_min": 0.9}}, "followed_min <= followed_target"),
        ({"blend": {"popularity": 1.0}}, "blend knows the families"),
        ({"weights": {"wink": 1.0}}, "Input should be"),
        ({"out_of_network": 0.0}, "greater than or equal"),
        ({"speed": 1}, "Extra inputs"),
        ({"weights": {"like": float("nan")}}, "finite"),
        ({"weights": {}}, "needs a weight that is not 0"),
        ({"weights": {"like": 0.0}}, "needs a weight that is not 0"),
        ({"quotas": {"trending": -5}}, "greater than or equal"),
        ({"filters": {"max_age_hours": -3.0}}, "greater than 0"),
        ({"cold_start": {"slots": [-1]}}, "greater than or equal"),
        ({"exploration": {"regret": 0.5}, "cold_start": {"slots": [], "regret": 0.0}}, "0.500 of"),
        ({"exploration": {"regret": 0.5}, "cold_start": {"slots": [0], "regret": 0}}, "0.500 of"),
        ({"cold_start": {"slots": [0], "regret": 0.5}}, "0.500 of"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(change, match):
    with pytest.raises(ValidationError, match=match):
        Policy.model_validate({"name": "p", **change})


def test_a_scorer_without_weights_needs_none():
    assert Policy(name="p", scorer="popular", weights={}).weights == {}


def test_a_policy_is_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        Policy(name="p").name = "q"  # type: ignore[misc]


def test_worst_takes_the_lowest_rung():
    assert worst(DegradeLevel.FULL, DegradeLevel.CACHED, DegradeLevel.NO_DEEP) == "cached"


def test_source_bits_are_distinct():
    assert len({source.bit for source in SourceName}) == len(SourceName)


def test_feed_ids_are_read_as_written():
    feed = hash63("feed", 1)
    assert parse_feed_id(feed_id_text(feed)) == feed
    odd = ("-000000000000001", "0x0000000000001f", "0_0000000000001f", "0" * 14 + "1\n")
    for wrong in ("", "12", "G" * 16, "f" * 16, feed_id_text(feed).upper() + "0", *odd):
        with pytest.raises(ValueError, match=r"feed id|invalid literal"):
            parse_feed_id(wrong)


def test_hashed_parts_do_not_run_together():
    assert hash63("ab", "c") != hash63("a", "bc")
