"""`headwater mlflow`: open the MLflow UI on our runs."""

import os
import subprocess
import sys
from typing import Annotated

import typer

from contracts.errors import NotFound
from pipelines.console import Home, Reporter, home_of
from training.tracking import tracking_uri


def mlflow(
    port: Annotated[int, typer.Option(help="Port of the UI.")] = 5000,
    host: Annotated[str, typer.Option(help="Address of the UI.")] = "127.0.0.1",
    home: Home = None,
) -> None:
    """Open the MLflow UI on our runs, until Ctrl-C."""
    folder = home_of(home)
    if not (folder / "mlflow" / "mlflow.db").exists():
        msg = f"no training run is recorded in {folder}"
        raise NotFound(msg, hint="train with `headwater train`")
    Reporter().say(f"MLflow on http://{host}:{port}")
    uri = tracking_uri(folder)
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri]
    command += ["--host", host, "--port", str(port), "--workers", "1"]
    quiet = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    status = subprocess.run(command, check=False, env=quiet).returncode  # noqa: S603  # ours
    raise typer.Exit(status)
