"""`headwater serve`: the feed API, with the ranker in process or as a supervised service."""

from contextlib import nullcontext
from importlib import import_module
from typing import Annotated, Final, Literal

import typer

from contracts.policy import Policy
from contracts.settings import Settings, load_settings
from features.storage import WriterLock
from feed_api.supervisor import Work, run_workers
from pipelines.console import Home
from pipelines.policies import find_policy
from pipelines.ranker_process import ranker_running

_PROCESS: Final = "pipelines.serve_process"
"""Imported by name: the parent of several workers needs nothing of it, and starts the sooner."""


def serve(
    home: Home = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port to listen on.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that answer; one of them writes.")
    ] = None,
    ranker: Annotated[
        Literal["in_process", "bentoml"] | None,
        typer.Option(help="Where the ensemble ranker runs; bentoml starts and supervises it."),
    ] = None,
    policy: Annotated[
        str | None, typer.Option(help="Policy by name or file; the bundle's own by default.")
    ] = None,
) -> None:
    """Serve the feed API over HTTP until SIGTERM or Ctrl-C."""
    given = {"home": home, "host": host, "port": port, "workers": workers, "ranker": ranker}
    changed = {name: value for name, value in given.items() if value is not None}
    settings = load_settings().model_copy(update=changed)
    chosen = find_policy(policy, settings.home) if policy else None
    with ranker_running(settings) if settings.ranker == "bentoml" else nullcontext():
        _serve(settings, chosen)


def _serve(settings: Settings, policy: Policy | None) -> None:
    if settings.workers == 1:
        import_module(_PROCESS).serve_alone(settings, policy)
        return
    settings.home.mkdir(parents=True, exist_ok=True)
    WriterLock(settings.home / "writer.lock").release()  # Conflict before anything has started
    work = Work(f"{_PROCESS}:serve_among", (settings, policy))
    run_workers(settings.workers, settings.home, (settings.host, settings.port), work)
