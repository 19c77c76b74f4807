"""`headwater serve`: the feed API, with the ranker in process or as a supervised service."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from contracts.policy import Policy
from contracts.settings import Settings, load_settings
from features.workspace import Workspace
from feed_api.app import create_app
from feed_api.server import run_server
from pipelines.console import Home
from pipelines.policies import find_policy
from pipelines.ranker_process import ranker_running
from serving.opening import open_service


def serve(
    home: Home = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    ranker: Annotated[
        Literal["in_process", "bentoml"] | None,
        typer.Option(help="Where the ensemble ranker runs; bentoml starts and supervises it."),
    ] = None,
    policy: Annotated[
        str | None, typer.Option(help="Policy by name or file; the bundle's own by default.")
    ] = None,
) -> None:
    """Serve the feed API over HTTP until SIGTERM or Ctrl-C."""
    settings = settings_with(home=home, host=host, port=port, ranker=ranker)
    chosen = find_policy(policy, settings.home) if policy else None
    if settings.ranker == "bentoml":
        with ranker_running(settings):
            _serve(settings, chosen)
    else:
        _serve(settings, chosen)


def settings_with(**given: object) -> Settings:
    """Lay the options that were given over the settings."""
    changed = {name: value for name, value in given.items() if value is not None}
    return load_settings().model_copy(update=changed)


def _serve(settings: Settings, policy: Policy | None) -> None:
    with Workspace.open(Path(settings.home)) as workspace:
        feeds = open_service(workspace, settings, policy=policy)
        try:
            run_server(create_app(settings, workspace, feeds), settings.host, settings.port)
        finally:
            feeds.close()
