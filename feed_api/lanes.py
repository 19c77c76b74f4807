"""Lanes: one thread each with a bounded queue, so that overload is refused instead of queued."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from feed_api.problems import Overloaded

P = ParamSpec("P")
T = TypeVar("T")


class Lane:
    """Runs calls one after the other in a thread of its own; for use from one event loop.

    Feeds and writes have a lane each: a slow disk does not hold up a feed, and neither blocks the
    event loop.
    """

    def __init__(self, name: str, *, limit: int) -> None:
        self.name = name
        self.limit = limit
        """How many calls may wait or run at once."""
        self.pending = 0
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a call in the lane's thread; Overloaded where the queue is full.

        A call whose caller has gone away before it began is dropped.
        """
        if self.pending >= self.limit:
            msg = f"{self.pending} requests wait for the {self.name} already"
            raise Overloaded(msg, hint="try again in a second")
        self.pending += 1
        future = asyncio.wrap_future(self._executor.submit(call, *args, **kwargs))
        future.add_done_callback(self._done)
        return await future

    def close(self) -> None:
        """Wait for the call that runs, drop those that wait, and stop the thread."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _done(self, _future: object) -> None:
        self.pending -= 1
