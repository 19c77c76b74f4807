"""Which adapters there are, and which one a folder is for."""

from pathlib import Path
from typing import Final

from contracts.errors import InvalidInput, NotFound
from pipelines.ingestion.adapters import lastfm, lightgcn, ml_1m, ml_100k
from pipelines.ingestion.sources import Dataset

ADAPTERS: Final = {
    "ml-100k": (ml_100k.FILES, ml_100k.open_dataset),
    "ml-1m": (ml_1m.FILES, ml_1m.open_dataset),
    "lastfm": (lastfm.FILES, lastfm.open_dataset),
    "lightgcn": (lightgcn.FILES, lightgcn.open_dataset),
}
"""Name -> files that must all be there, and how to open their folder."""


def open_adapter(folder: Path, name: str) -> Dataset | None:
    """Open a folder with the named adapter; with `auto`, None where none recognises it."""
    if name not in {"auto", "files", *ADAPTERS}:
        msg = f"there is no adapter {name}"
        raise InvalidInput(msg, hint=f"adapters are auto, files, {', '.join(ADAPTERS)}")
    if name == "auto":
        for files, open_files in ADAPTERS.values():
            if all((folder / file).is_file() for file in files):
                return open_files(folder)
    if name in {"auto", "files"}:
        return None
    if not folder.is_dir():
        raise NotFound(f"{folder} is not a folder", hint="name the folder that holds the data set")
    return ADAPTERS[name][1](folder)
