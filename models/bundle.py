"""The bundle: one folder that holds everything a feed is ranked with, checksummed.

Model and index can never mismatch, because both lie in here. No pickles: JSON, safetensors,
npy and FAISS files, so that a rename in the code never breaks a stored bundle.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from time import time
from typing import Final, Self

import faiss
import numpy as np
from pydantic import ValidationError

from contracts.errors import BundleMismatch
from contracts.policy import ACTIONS, Policy
from features.views import FEATURE_HASH, FEATURES
from models.base import Family, FloatArray, IntArray, RetrievalModel
from models.baselines import Popularity
from models.blend import RetrievalBlend
from models.collaborative import FactorModel
from models.content import ContentModel
from models.deep import DeepModel
from models.manifest import MANIFEST_FILE, Manifest, file_checksum
from models.neighbours import ItemKnn
from models.normalise import QuantileTable
from models.ranker import EnsembleRanker
from models.storage import read_state, write_state

_LOADERS: Final[Mapping[Family, type[RetrievalModel]]] = {
    Family.COLLABORATIVE: FactorModel,
    Family.CONTENT: ContentModel,
    Family.DEEP: DeepModel,
    Family.NEIGHBOURS: ItemKnn,
}
VECTOR_FAMILIES: Final = (Family.COLLABORATIVE, Family.CONTENT, Family.DEEP)
"""Families that an index searches; neighbours are looked up."""
FLAT_BELOW: Final = 20_000
"""Exact search below this many posts, inverted lists from here on."""
_LISTS_PER_ROOT: Final = 4
_STALE_SECONDS: Final = 86_400.0
"""Age from which a folder of a bundle that was being written is what a killed process left."""
PROBES: Final = 64
"""Lists that a search looks into; what more or fewer find: docs/benchmarks.md, retrieval."""


@dataclass(frozen=True)
class Bundle:
    """Everything that one training run hands to serving; immutable."""

    manifest: Manifest
    post_ids: IntArray
    """Post id of each item row, ascending: [n]."""
    families: Mapping[Family, RetrievalModel]
    popularity: Popularity
    normalisers: Mapping[Family, QuantileTable]
    ranker: EnsembleRanker
    indexes: Mapping[Family, faiss.Index]
    """FAISS inner-product index a family of vectors; its ids are item rows."""

    @property
    def bundle_id(self) -> str:
        """16 hexadecimal digits over the contents."""
        return self.manifest.bundle_id

    @property
    def policy(self) -> Policy:
        """Give the policy that the bundle was trained and measured with."""
        return self.manifest.policy

    @cached_property
    def blend(self) -> RetrievalBlend:
        """Give the retrieval blend that was chosen on validation."""
        weights = {Family(name): weight for name, weight in self.manifest.blend.items()}
        return RetrievalBlend(weights, self.normalisers)

    def normalise(self, family: Family, raw: FloatArray) -> FloatArray:
        """Map a family's raw scores, any shape, to [0, 1] by its quantile table; NaN stays."""
        return self.normalisers[family].apply(raw)

    def rows_of(self, post_ids: IntArray) -> IntArray:
        """Look posts up: item rows, -1 where the bundle does not know a post."""
        if not len(self.post_ids):
            return np.full(len(post_ids), -1, dtype=np.int64)
        near = np.minimum(np.searchsorted(self.post_ids, post_ids), len(self.post_ids) - 1)
        return np.where(self.post_ids[near] == post_ids, near, -1).astype(np.int64)

    def save(self, bundles: Path) -> "Bundle":
        """Write `bundles/<bundle_id>/`, whole or not at all; give the bundle with its id."""
        bundles.mkdir(parents=True, exist_ok=True)
        for left in bundles.glob(".staging-*"):
            with suppress(FileNotFoundError):  # another process may be at its end
                if time() - left.stat().st_mtime > _STALE_SECONDS:
                    rmtree(left, ignore_errors=True)
        with TemporaryDirectory(dir=bundles, prefix=".staging-") as name:
            manifest = self._stage(Path(name) / "bundle")
            staged, target = Path(name) / "bundle", bundles / manifest.bundle_id
            if target.exists() and not _is_whole(target):
                with suppress(FileNotFoundError):  # another process may be mending it too
                    target.rename(Path(name) / "damaged")
            try:
                staged.rename(target)
            except OSError:  # the same files are there: what may be served from is never taken away
                (staged / MANIFEST_FILE).replace(target / MANIFEST_FILE)
        return replace(self, manifest=manifest)

    def _stage(self, staging: Path) -> Manifest:
        """Write all files into a new folder, the manifest last."""
        staging.mkdir()
        _write_parts(self, staging)
        files = {
            path.relative_to(staging).as_posix(): file_checksum(path)
            for path in sorted(staging.rglob("*"))
            if path.is_file()
        }
        manifest = self.manifest.model_copy(update={"files": files, "policy": _stated(self.policy)})
        manifest = manifest.model_copy(update={"bundle_id": manifest.identity()})
        text = manifest.model_dump_json(indent=2)
        (staging / MANIFEST_FILE).write_text(text + "\n", encoding="utf-8")
        return manifest

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read and check a bundle; BundleMismatch where it is damaged or does not fit the code."""
        manifest = read_manifest(folder)
        _check_code(manifest, folder)
        _check_files(manifest, folder)
        try:
            return cls._read(folder, manifest)
        except (KeyError, ValidationError) as error:
            msg = f"bundle {folder.name} has another layout than this code reads: {error}"
            raise BundleMismatch(msg, hint="train again with `headwater train`") from error

    @classmethod
    def _read(cls, folder: Path, manifest: Manifest) -> Self:
        _, tables = read_state(folder / "normalisers")
        return cls(
            manifest,
            np.load(folder / "post_ids.npy"),
            {family: _LOADERS[family].load(folder / family.value) for family in Family},
            Popularity.load(folder / "popularity"),
            {f: QuantileTable(tables[f"{f}.scores"], tables[f"{f}.levels"]) for f in Family},
            EnsembleRanker.load(folder / "ranker"),
            {f: faiss.read_index(str(folder / f"{f.value}.faiss")) for f in VECTOR_FAMILIES},
        )


def _is_whole(folder: Path) -> bool:
    try:
        _check_files(read_manifest(folder), folder)
    except BundleMismatch:
        return False
    return True


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a bundle folder; BundleMismatch where there is none or it is broken."""
    path = folder / MANIFEST_FILE
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        msg = f"there is no bundle in {folder}: {MANIFEST_FILE} is missing"
        raise BundleMismatch(msg, hint="train one with `headwater train`") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        msg = f"{path} is not a manifest of this version: {where}: {first['msg']}"
        raise BundleMismatch(msg, hint="train again with this version") from error


def build_index(vectors: FloatArray, seed: int = 0) -> faiss.Index:
    """Build an inner-product index over the rows that have vectors; its ids are item rows."""
    rows = np.flatnonzero(np.isfinite(vectors).all(axis=1))
    known = np.ascontiguousarray(vectors[rows], dtype=np.float32)
    if len(rows) < FLAT_BELOW:
        recipe = "IDMap2,Flat"
    else:
        recipe = f"IVF{int(_LISTS_PER_ROOT * np.sqrt(len(rows)))},Flat"
    index = faiss.index_factory(vectors.shape[1], recipe, faiss.METRIC_INNER_PRODUCT)
    if not index.is_trained:
        lists = faiss.extract_index_ivf(index)
        lists.cp.seed = seed + 1
        lists.nprobe = PROBES
        index.train(known)
    index.add_with_ids(known, rows)
    return index


def _stated(policy: Policy) -> Policy:
    """Give the policy with every choice stated, defaults too, as the manifest writes it."""
    return Policy.model_validate_json(policy.model_dump_json())


def _write_parts(bundle: Bundle, folder: Path) -> None:
    np.save(folder / "post_ids.npy", bundle.post_ids)
    for family in Family:
        (folder / family.value).mkdir()
        bundle.families[family].save(folder / family.value)
    for family, index in bundle.indexes.items():
        faiss.write_index(index, str(folder / f"{family.value}.faiss"))
    tables: dict[str, FloatArray] = {}
    for family, table in bundle.normalisers.items():
        tables[f"{family}.scores"], tables[f"{family}.levels"] = table.scores, table.levels
    write_state(folder / "normalisers", {"families": [f.value for f in Family]}, tables)
    for name, part in (
        ("popularity", bundle.popularity),
        ("ranker", bundle.ranker),
    ):
        (folder / name).mkdir()
        part.save(folder / name)


def _check_code(manifest: Manifest, folder: Path) -> None:
    if manifest.feature_hash != FEATURE_HASH:
        missing = [f for f in manifest.features if f not in FEATURES]
        new = [f for f in FEATURES if f not in manifest.features]
        msg = (
            f"bundle {folder.name} was trained on other features: it wants "
            f"{missing or 'another order'}, this code adds {new or 'none'}"
        )
        raise BundleMismatch(msg, hint="train again with `headwater train`")
    if manifest.actions != tuple(action.value for action in ACTIONS):
        msg = f"bundle {folder.name} predicts the actions {', '.join(manifest.actions)}"
        raise BundleMismatch(msg, hint="train again with `headwater train`")


def _check_files(manifest: Manifest, folder: Path) -> None:
    for name, expected in manifest.files.items():
        path = folder / name
        if not path.is_file():
            msg = f"bundle {folder.name} lacks its file {name}"
            raise BundleMismatch(msg, hint="copy the whole folder again")
        if file_checksum(path) != expected:
            msg = f"{name} of bundle {folder.name} was changed since it was written"
            raise BundleMismatch(msg, hint="copy the whole folder again or roll back")
    if manifest.identity() != manifest.bundle_id:
        msg = f"the manifest of bundle {folder.name} was changed since it was written"
        raise BundleMismatch(msg, hint="copy the whole folder again or roll back")
