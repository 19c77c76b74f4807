"""The option `--ray`, which works where the extra `ray` is installed."""

from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer

from contracts.errors import InvalidInput
from features.workspace import require_data

RayWorkers = Annotated[
    int | None,
    typer.Option(
        "--ray",
        min=1,
        metavar="WORKERS",
        help="Share the work among so many Ray workers, which are replaced when they are lost; "
        "here, or on the cluster RAY_ADDRESS. Needs the extra `ray`.",
    ),
]


def ray_session(workers: int | None, home: Path) -> AbstractContextManager[Any]:
    """Open `pipelines.ray_jobs.session`; without workers, nothing: gives None.

    NotFound where the home has no data.
    """
    if workers is None:
        return nullcontext()
    jobs = ray_jobs()
    require_data(home)
    found: AbstractContextManager[Any] = jobs.session(workers, home)
    return found


def ray_jobs() -> ModuleType:
    """Import `pipelines.ray_jobs`; InvalidInput where Ray is not installed."""
    if find_spec("ray") is None:
        msg = "--ray needs Ray, which is not installed here"
        hint = "in the project's folder: pip install -c constraints.txt -e '.[ray]'"
        raise InvalidInput(msg, hint=hint)
    return import_module("pipelines.ray_jobs")
