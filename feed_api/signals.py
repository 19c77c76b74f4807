"""Signals that are dealt with in another way for a while."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Action = Callable[[int, FrameType | None], object] | signal.Handlers


class Ending:
    """Whether the process has been told to end.

    No `threading.Event`: a handler that sets one while the main thread is inside its `wait` waits
    for the main thread, for ever.
    """

    def __init__(self) -> None:
        self._told = False

    def note(self, _signal: int, _frame: object) -> None:
        """Take the signal that tells it."""
        self._told = True

    def told(self) -> bool:
        """Say whether it has been told, now."""
        return self._told


@contextmanager
def signals_lead_to(action: Action, *signals: signal.Signals) -> Iterator[None]:
    """Let signals have this action while the block runs; call it in the main thread."""
    before = {number: signal.signal(number, action) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
