"""Runs `headwater serve` as a process of its own for the length of a block."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Final

from contracts.clock import now_us
from contracts.errors import Unavailable
from feed_api.database import home_url, open_database
from feed_api.keys import Scope, create_key
from pipelines.platform_client import PlatformClient
from pipelines.ranker_process import end_process

START_SECONDS: Final = 120.0
_STOP_SECONDS: Final = 15.0
_NOT_INHERITED: Final = ("PROMETHEUS_MULTIPROC_DIR", "PROMETHEUS_MULTIPROCESS_DIR")
"""Feast sets them when it is imported; the server would then keep its metrics in shared files."""


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that answers."""

    url: str
    process: "subprocess.Popen[bytes]"
    log: Path


@contextmanager
def serving(
    home: Path, token: str, port: int, settings: Mapping[str, str], log: Path
) -> Iterator[RunningServer]:
    """Start a server on a home folder and wait until it is ready; it ends with the block.

    Its log goes to a file. Unavailable where it does not start.
    """
    inherited = {k: v for k, v in os.environ.items() if k not in _NOT_INHERITED}
    environment = {**inherited, **settings, "HEADWATER_HOME": str(home), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pipelines", "serve", "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own command
            command, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            _wait_ready(url, token, process, log)
            yield RunningServer(url, process, log)
        finally:
            end_process(process, _STOP_SECONDS)


def make_admin_key(home: Path, name: str) -> str:
    """Make a key that may do everything on a home folder's server, and give its token."""
    engine = open_database(home_url(home))
    made = create_key(engine, name, [Scope.ADMIN], now_us())
    engine.dispose()
    return made.token


def free_port(wanted: int) -> int:
    """Give the wanted port where it is free, else another one that is.

    It stays bound, not listened on: whoever asks the system for any port gets another one, and a
    server that binds it with SO_REUSEADDR, as ours does, may listen.
    """
    for port in (wanted, 0):
        held = socket.socket()
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            held.bind(("127.0.0.1", port))
            number = int(held.getsockname()[1])
            held.detach()  # open to the end of this process
            return number
        held.close()
    raise Unavailable("no port is free on 127.0.0.1")


def _wait_ready(url: str, token: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = monotonic() + START_SECONDS
    with PlatformClient(url, token) as client:
        while not client.ready():
            if process.poll() is not None or monotonic() > deadline:
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
                msg = f"the server at {url} did not start; its last words:\n{tail}"
                raise Unavailable(msg, hint=f"the whole log is {log}")
            sleep(0.1)
