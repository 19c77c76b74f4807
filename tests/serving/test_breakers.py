"""Circuit breakers: open after five failures running, try again, and forget."""

import time

import pytest

from serving.breakers import OPENS_AFTER, Breaker, Breakers


def opened(retry_seconds=0.3):
    breaker = Breaker("ranker", retry_seconds=retry_seconds)
    for _ in range(OPENS_AFTER):
        breaker.failed()
    return breaker


def test_five_failures_running_open_it_and_a_success_between_does_not():
    breaker = Breaker("ranker")
    for _ in range(OPENS_AFTER - 1):
        breaker.failed()
    assert not breaker.refuses
    breaker.succeeded()
    for _ in range(OPENS_AFTER - 1):
        breaker.failed()
    assert not breaker.refuses
    breaker.failed()
    assert breaker.refuses


@pytest.mark.parametrize("healed", [True, False])
def test_after_some_seconds_one_failure_opens_it_again_and_a_success_closes_it(healed):
    breaker = opened()
    time.sleep(0.35)
    assert not breaker.refuses
    if healed:
        breaker.succeeded()
    else:
        breaker.failed()
    assert breaker.refuses is not healed
    assert breaker.calm is healed


def test_a_board_makes_a_breaker_a_name_and_tells_which_are_open():
    board = Breakers()
    for _ in range(OPENS_AFTER):
        board["source.deep"].failed()
        board["source.fresh"].succeeded()
    assert board["source.deep"] is board["source.deep"]
    assert board.open == ("source.deep",)
