"""What records name, found again: rankers by bundle id and policies by hash, each checked.

A name is a hash of the contents: a ranker or policy that was exchanged under its name is refused.
"""

from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from contracts.errors import BundleMismatch, NotFound, SchemaMismatch
from contracts.policy import Policy
from models.bundle import read_manifest
from models.manifest import file_checksum
from models.ranker import EnsembleRanker

_RANKERS: Final = 16
_RANKER: Final = "ranker"


class Shelves:
    """The bundles and policies of one home folder, as replay needs them; kept once read."""

    def __init__(self, home: Path) -> None:
        self._bundles = home / "bundles"
        self._policies = home / "records" / "policies"
        self.ranker = lru_cache(maxsize=_RANKERS)(self._ranker)
        self.policy = lru_cache(maxsize=None)(self._policy)

    def _ranker(self, bundle_id: str) -> EnsembleRanker:
        """Load a bundle's ranker; NotFound, or BundleMismatch where it is not what it was.

        Nothing else of the bundle is read, so that records outlive a change of the features.
        """
        folder = self._bundles / bundle_id
        if not bundle_id or not folder.is_dir():
            msg = f"bundle {bundle_id or '(none)'} is not in {self._bundles}"
            raise NotFound(msg, hint="bundles are needed as long as records that name them")
        manifest = read_manifest(folder)
        if not bundle_id == manifest.bundle_id == manifest.identity():
            msg = f"{folder} holds another bundle than its name says: {manifest.identity()}"
            raise BundleMismatch(msg, hint="copy the right folder there again")
        for name, expected in manifest.files.items():
            if name.startswith(f"{_RANKER}/") and file_checksum(folder / name) != expected:
                msg = f"{name} of bundle {bundle_id} was changed since it was written"
                raise BundleMismatch(msg, hint="copy the whole folder again")
        return EnsembleRanker.load(folder / _RANKER)

    def _policy(self, policy_hash: str) -> Policy:
        """Load a policy; NotFound, or SchemaMismatch where it is not what it was."""
        path = self._policies / f"{policy_hash}.json"
        if not path.exists():
            msg = f"policy {policy_hash} is not in {self._policies}"
            raise NotFound(msg, hint="policies are needed as long as records that name them")
        text = path.read_bytes()
        if blake2b(text, digest_size=8).hexdigest() != policy_hash:
            msg = f"{path} was changed since it was written"
            raise SchemaMismatch(msg, hint="copy it again from where the feed was served")
        try:
            return Policy.model_validate_json(text)
        except ValidationError as error:
            msg = f"{path} is a policy of another version: {error.errors()[0]['msg']}"
            raise SchemaMismatch(msg) from error
