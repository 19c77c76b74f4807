"""Holding a data set's files to its SHA256SUMS, where there is one."""

from hashlib import file_digest
from pathlib import Path

from contracts.errors import InvalidInput, NotFound


def check_files(folder: Path, names: list[str]) -> list[str]:
    """Hold files to `SHA256SUMS` in their folder or the one above; a note where it is absent.

    NotFound or InvalidInput names the file that is missing or differs.
    """
    for name in names:
        if not (folder / name).is_file():
            raise NotFound(f"{folder} lacks {name}", hint=f"this adapter reads {', '.join(names)}")
    sums = _read_sums(folder)
    if not sums:
        return ["no SHA256SUMS beside the files: they were not checked"]
    for name in names:
        expected = sums.get(name)
        with (folder / name).open("rb") as file:
            if expected is not None and file_digest(file, "sha256").hexdigest() != expected:
                msg = f"{folder / name} differs from its checksum in SHA256SUMS"
                raise InvalidInput(msg, hint="get the file again")
    return []


def _read_sums(folder: Path) -> dict[str, str]:
    folder = folder.resolve()
    for base in (folder, folder.parent):
        path = base / "SHA256SUMS"
        if path.is_file():
            prefix = "" if base == folder else f"{folder.name}/"
            pairs = (line.split(maxsplit=1) for line in path.read_text().splitlines() if line)
            names = {name.strip().lstrip("*").removeprefix("./"): digest for digest, name in pairs}
            return {
                name.removeprefix(prefix): digest
                for name, digest in names.items()
                if name.startswith(prefix)
            }
    return {}
