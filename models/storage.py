"""How a model lies on disk: one JSON object and one safetensors file a folder."""

from collections.abc import Mapping
from json import dumps, loads
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

STATE_FILE: Final = "state.json"
ARRAYS_FILE: Final = "arrays.safetensors"

Arrays = Mapping[str, NDArray[Any]]


def write_state(folder: Path, state: Mapping[str, Any], arrays: Arrays) -> None:
    """Write a model's plain values and its arrays; the same input gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    text = dumps(state, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    (folder / STATE_FILE).write_text(text, encoding="utf-8")
    whole = {name: np.ascontiguousarray(array) for name, array in sorted(arrays.items())}
    save_file(whole, folder / ARRAYS_FILE)


def read_state(folder: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read what `write_state` wrote."""
    state: dict[str, Any] = loads((folder / STATE_FILE).read_text(encoding="utf-8"))
    arrays: dict[str, NDArray[Any]] = load_file(folder / ARRAYS_FILE)
    return state, arrays
