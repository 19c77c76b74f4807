"""Plans: pure, monotone, within memory, and refused where nothing fits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import InvalidInput
from training.config import TrainingConfig
from training.costs import Limits, Sizes, estimate, machine_speed
from training.plan import RUNGS, SHRINKS, Plan, bounded, make_plan

BASE = TrainingConfig(threads=1)
MOVIES = Sizes(6040, 3416, 999_611, 0)

sizes = st.builds(
    Sizes,
    st.integers(2, 200_000),
    st.integers(2, 200_000),
    st.integers(20, 5_000_000),
    st.integers(0, 20_000_000),
)
limits = st.builds(
    Limits,
    st.floats(1.0, 20_000.0),
    st.floats(300.0, 200_000.0),
    st.sampled_from([1, 2, 8]),
    st.floats(0.1, 5.0),
)


def plan_or_none(of: Sizes, within: Limits) -> Plan | None:
    try:
        return make_plan(of, BASE, within)
    except InvalidInput:
        return None


def absent(plan: Plan) -> set[str]:
    return {left.what for left in plan.left_out}


@given(sizes, limits)
def test_a_plan_is_pure_and_keeps_to_its_limits(of: Sizes, within: Limits) -> None:
    plan = plan_or_none(of, within)
    assert plan == plan_or_none(of, within)
    if plan is None:
        return
    assert plan.rounds[0].name == "quick"
    assert sum(each.seconds for each in plan.rounds) <= within.seconds
    assert all(each.peak.peak_mb <= within.ram_mb for each in plan.rounds)
    names = [each.name for each in plan.rounds]
    assert names == [name for name in RUNGS if name in names]


@given(sizes, limits, st.floats(1.0, 50.0))
def test_more_budget_never_leaves_out_more(of: Sizes, within: Limits, more: float) -> None:
    less, richer = plan_or_none(of, within), within._replace(seconds=within.seconds * more)
    if less is not None:
        plan = plan_or_none(of, richer)
        assert plan is not None
        assert absent(plan) <= absent(less)


@given(sizes, limits, st.floats(1.0, 50.0))
def test_more_memory_never_refuses(of: Sizes, within: Limits, more: float) -> None:
    if plan_or_none(of, within._replace(seconds=1e9)) is not None:
        roomy = within._replace(seconds=1e9, ram_mb=within.ram_mb * more)
        assert plan_or_none(of, roomy) is not None


@given(sizes, st.sampled_from(list(RUNGS)), st.integers(1, 1_000_000))
def test_more_events_never_cost_less(of: Sizes, rung: str, more: int) -> None:
    config, within = bounded(BASE, RUNGS[rung]), Limits(1.0, 1.0)
    of = of._replace(impressions=of.impressions + 1)  # without any, candidates take their place
    small = estimate(of, config, within)
    big = estimate(of._replace(impressions=of.impressions + more), config, within)
    for one, other in zip(small, big, strict=True):
        assert 0.0 <= one.seconds <= other.seconds
        assert 0.0 < one.peak_mb <= other.peak_mb


def test_enough_of_both_leaves_nothing_out() -> None:
    plan = make_plan(MOVIES, BASE, Limits(36_000.0, 64_000.0))
    assert plan.rounds[-1].config == BASE
    assert plan.left_out == ()


def test_a_short_budget_says_what_it_leaves_out_and_why() -> None:
    first = make_plan(MOVIES, BASE, Limits(36_000.0, 64_000.0)).rounds[0]
    plan = make_plan(MOVIES, BASE, Limits(first.seconds * 1.2, 64_000.0))
    assert [each.name for each in plan.rounds] == ["quick"]
    said = {left.what: left for left in plan.left_out}
    second = said["second fit on all before the test"]
    assert second.how == "without, not with"
    assert second.why.startswith("a whole run takes about")
    assert make_plan(MOVIES, BASE, Limits(1.0, 64_000.0), after="quick").rounds == ()


def test_little_memory_asks_fewer_people() -> None:
    roomy = make_plan(Sizes(50_000, 40_000, 2_000_000, 0), BASE, Limits(36_000.0, 64_000.0))
    tight = roomy.whole.peak.peak_mb * 0.8
    plan = make_plan(Sizes(50_000, 40_000, 2_000_000, 0), BASE, Limits(36_000.0, tight))
    assert plan.rounds[-1].name == "whole"
    (asked,) = (left for left in plan.left_out if left.what == "people tested")
    assert "more does not fit in" in asked.why


def test_a_round_that_needs_too_much_memory_is_no_part_of_a_plan() -> None:
    wide = Sizes(50_000, 100_000, 2_000_000, 0)
    least = bounded(BASE, SHRINKS[-1])
    quick, whole = (
        max(s.peak_mb for s in estimate(wide, bounded(least, RUNGS[name]), Limits(1.0, 1.0)))
        for name in ("quick", "whole")
    )
    assert quick < whole
    plan = make_plan(wide, BASE, Limits(36_000.0, (quick + whole) / 2))
    assert plan.rounds[-1].name != "whole"
    assert {left.why for left in plan.left_out} == {
        f"more does not fit in {plan.limits.ram_mb:,.0f} MB"
    }


@pytest.mark.parametrize(
    ("within", "hint"), [(Limits(600.0, 100.0), "--ram"), (Limits(0.5, 64_000.0), "--budget")]
)
def test_the_impossible_is_refused_with_what_would_do(within: Limits, hint: str) -> None:
    with pytest.raises(InvalidInput, match="the smallest plan") as refused:
        make_plan(MOVIES, BASE, within)
    assert refused.value.hint is not None
    word = refused.value.hint.split()[2]
    enough = float(word[:-1])
    given_more = within._replace(**{"ram_mb" if hint == "--ram" else "seconds": enough})
    assert hint in refused.value.hint
    assert make_plan(MOVIES, BASE, given_more).rounds


def test_the_time_of_a_search_is_kept_and_said() -> None:
    alone = make_plan(MOVIES, BASE, Limits(36_000.0, 64_000.0)).rounds[0].seconds
    with pytest.raises(InvalidInput, match=r"beside a search of 600 s, .* 30 s are allowed") as no:
        make_plan(MOVIES, BASE, Limits(30.0, 64_000.0), searching=600.0)
    assert no.value.hint is not None
    enough = float(no.value.hint.split()[2][:-1])
    assert enough > 600.0 + alone
    assert make_plan(MOVIES, BASE, Limits(enough, 64_000.0), searching=600.0).rounds


def test_the_machine_is_timed() -> None:
    assert 0.0 < machine_speed() < 1000.0
