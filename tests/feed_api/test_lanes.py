"""Lanes: one call at a time, in order, with a bound."""

import asyncio
from threading import Event, get_ident

import pytest

from feed_api.lanes import Lane
from feed_api.problems import Overloaded


def test_calls_run_one_after_the_other_in_one_thread():
    seen: list[int] = []

    def note(number: int) -> int:
        seen.append(number)
        return get_ident()

    async def run() -> set[int]:
        lane = Lane("test", limit=100)
        threads = await asyncio.gather(*(lane.run(note, k) for k in range(50)))
        assert lane.pending == 0
        lane.close()
        return set(threads)

    assert len(asyncio.run(run())) == 1
    assert seen == list(range(50))


def test_the_bound_holds_and_what_is_dropped_never_runs():
    gate, ran = Event(), []

    async def run() -> None:
        lane = Lane("test", limit=2)
        first = asyncio.create_task(lane.run(gate.wait))
        second = asyncio.create_task(lane.run(ran.append, "second"))
        await asyncio.sleep(0)
        third = asyncio.create_task(lane.run(ran.append, "third"))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.sleep(0)
        assert lane.pending == 1
        gate.set()
        await first
        with pytest.raises(Overloaded, match="2 requests wait for the test already"):
            await third
        await lane.run(ran.append, "fourth")
        lane.close()

    try:
        asyncio.run(run())
    finally:
        gate.set()  # a lane's thread outlives a failed test otherwise
    assert ran == ["fourth"]


def test_an_error_reaches_its_caller_and_frees_the_place():
    async def run() -> None:
        lane = Lane("test", limit=1)
        for _ in range(3):
            with pytest.raises(ValueError, match="invalid literal"):
                await lane.run(int, "x")
        assert await lane.run(int, "7") == 7
        lane.close()

    asyncio.run(run())
