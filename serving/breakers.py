"""Circuit breakers: what failed several times running is left alone for a few seconds.

One library (`circuitbreaker`) counts, opens and half-opens, for the components of a feed and for
clients of other services. A healthy call costs one attribute check: the library is asked only
once something has failed. Its clock is the monotonic one, and no replayed number depends on it.
"""

from typing import Final

import structlog
from circuitbreaker import CircuitBreaker

_log = structlog.get_logger(__name__)

OPENS_AFTER: Final = 5
"""Consecutive failures that open a breaker."""
RETRY_SECONDS: Final = 5.0
"""How long an open breaker refuses before it lets one call try."""


class Breaker:
    """The breaker of one component or client: ask `refuses`, call, then tell how it went."""

    __slots__ = ("_circuit", "calm", "name")

    def __init__(
        self, name: str, opens_after: int = OPENS_AFTER, retry_seconds: float = RETRY_SECONDS
    ) -> None:
        self.name = name
        self.calm = True
        """Nothing has failed since the last success: neither ask nor tell."""
        self._circuit = CircuitBreaker(opens_after, retry_seconds, name=name)

    @property
    def refuses(self) -> bool:
        """Say whether the component is to be left alone now."""
        return not self.calm and bool(self._circuit.opened)

    def failed(self) -> None:
        """Count a failure."""
        self.calm = False
        # The error itself is not handed over: its traceback would keep a whole feed alive.
        self._circuit.__exit__(Exception, None, None)
        if self._circuit.opened:
            _log.warning("breaker_opened", component=self.name)

    def succeeded(self) -> None:
        """Forget the failures; closes the breaker after a trial."""
        self._circuit.reset()
        self.calm = True


class Breakers(dict[str, Breaker]):
    """A breaker a name, made when it is first asked for."""

    def __missing__(self, name: str) -> Breaker:
        made = self[name] = Breaker(name)
        return made

    @property
    def open(self) -> tuple[str, ...]:
        """The names of what is left alone now."""
        return tuple(name for name, breaker in tuple(self.items()) if breaker.refuses)
