"""Signals that are dealt with in another way for a while."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Action = Callable[[int, FrameType | None], object] | signal.Handlers


@contextmanager
def signals_lead_to(action: Action, *signals: signal.Signals) -> Iterator[None]:
    """Let signals have this action while the block runs; call it in the main thread."""
    before = {number: signal.signal(number, action) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
