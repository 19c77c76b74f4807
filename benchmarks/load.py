"""Open-loop load: requests leave on a Poisson schedule, whether or not the last one is back.

Latency counts from the moment a request should have left, so that a server which falls behind is
not flattered (coordinated omission).
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import aiohttp
import orjson


@dataclass(slots=True)
class Load:
    """What one rate did."""

    seconds: list[float] = field(default_factory=list)
    errors: int = 0
    levels: dict[str, int] = field(default_factory=dict)
    wall: float = 0.0
    scheduled: float = 0.0
    """Seconds from the start to the moment at which the last request should have left."""

    @property
    def sent(self) -> int:
        """Count all requests, failed ones too."""
        return len(self.seconds) + self.errors

    @property
    def achieved_share(self) -> float:
        """Give the share of the rate that was achieved: below 1 where the server fell behind."""
        return min(1.0, self.scheduled / max(self.wall, 1e-9))

    @property
    def degraded_share(self) -> float:
        """Give the share of answers whose level was not full."""
        return 1.0 - self.levels.get("full", 0) / max(1, sum(self.levels.values()))


def run_load(
    url: str, path_of: Callable[[random.Random], str], key: str | None, rate: float, count: int
) -> Load:
    """Send `count` GET requests at `rate` a second to a server on loopback; seeded by the rate."""
    return asyncio.run(_run(url, path_of, key, rate, count))


async def _run(
    url: str, path_of: Callable[[random.Random], str], key: str | None, rate: float, count: int
) -> Load:
    numbers = random.Random(rate)
    load = Load()
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    connector = aiohttp.TCPConnector(limit=256)
    timeout = aiohttp.ClientTimeout(total=10)
    async with aiohttp.ClientSession(
        url, headers=headers, connector=connector, timeout=timeout
    ) as session:
        started = perf_counter()
        due, tasks = 0.0, []
        for _ in range(count):
            due += numbers.expovariate(rate)
            wait = started + due - perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            tasks.append(asyncio.create_task(_one(session, path_of(numbers), started + due, load)))
        await asyncio.gather(*tasks)
        load.wall, load.scheduled = perf_counter() - started, due
    return load


async def _one(session: Any, path: str, due: float, load: Load) -> None:  # noqa: ANN401
    try:
        async with session.get(path) as answer:
            body = await answer.read()
    except (aiohttp.ClientError, TimeoutError):
        load.errors += 1
        return
    if answer.status != 200:
        load.errors += 1
        return
    load.seconds.append(perf_counter() - due)
    level = orjson.loads(body).get("level", "full") if body.startswith(b"{") else "full"
    load.levels[level] = load.levels.get(level, 0) + 1
