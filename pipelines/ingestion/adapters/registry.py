"""Which adapters there are, and which one a folder is for."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from contracts.errors import InvalidInput, NotFound
from pipelines.ingestion.adapters import lastfm, ml_1m, ml_100k
from pipelines.ingestion.sources import Dataset


@dataclass(frozen=True, slots=True)
class Adapter:
    """How to recognise a data set's folder and how to open it."""

    marks: tuple[str, ...]
    """Files that must all be there."""
    open: Callable[[Path], Dataset]


ADAPTERS: Final = {
    "ml-100k": Adapter(tuple(ml_100k.FILES), ml_100k.open_dataset),
    "ml-1m": Adapter(tuple(ml_1m.FILES), ml_1m.open_dataset),
    "lastfm": Adapter(tuple(lastfm.FILES), lastfm.open_dataset),
}


def open_adapter(folder: Path, name: str) -> Dataset | None:
    """Open a folder with the named adapter; with `auto`, None where none recognises it."""
    if name not in {"auto", "files", *ADAPTERS}:
        msg = f"there is no adapter {name}"
        raise InvalidInput(msg, hint=f"adapters are auto, files, {', '.join(ADAPTERS)}")
    if name == "auto":
        for adapter in ADAPTERS.values():
            if all((folder / mark).is_file() for mark in adapter.marks):
                return adapter.open(folder)
        return None
    if name == "files":
        return None
    if not folder.is_dir():
        msg = f"{folder} is not a folder"
        raise NotFound(msg, hint="name the folder that holds the data set")
    return ADAPTERS[name].open(folder)
