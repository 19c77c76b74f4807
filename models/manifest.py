"""What a bundle says about itself."""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from json import dumps
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from contracts.policy import Policy

MANIFEST_FILE: Final = "manifest.json"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataWindow(_Part):
    """What the bundle learned from."""

    dataset: str
    fingerprint: str
    """BLAKE2b over the interactions that training saw."""
    events: int
    people: int
    posts: int
    first_us: int
    last_us: int
    """The newest action that any weight has seen."""
    up_to_seq: int = 0
    """Event log position that was read."""


class FamilyNote(_Part):
    """One family of the bundle."""

    model: str
    """Which model holds the family, e.g. als."""
    dimensions: int
    config: Mapping[str, Any] = Field(default_factory=dict)


class Manifest(_Part):
    """The bundle's JSON manifest: config, features and types, data window, metrics, policy."""

    format_version: Literal[1] = 1
    bundle_id: str = ""
    created: str
    """ISO 8601, UTC."""
    code_version: str
    features: tuple[str, ...]
    feature_hash: str
    feature_type: Literal["float16"] = "float16"
    actions: tuple[str, ...]
    heads_trained: tuple[str, ...]
    calibrated: bool
    """True only where impressions are known."""
    protocol: str
    measured_on: str
    """A sentence: which fit of the models the metrics are of, on whom."""
    seed: int
    data: DataWindow
    families: Mapping[str, FamilyNote]
    config: Mapping[str, Any] = Field(default_factory=dict)
    """Every choice of the training run."""
    blend: Mapping[str, float]
    policy: Policy
    metrics: Sequence[Mapping[str, Any]] = ()
    ranker_metrics: Mapping[str, float] = Field(default_factory=dict)
    files: Mapping[str, str] = Field(default_factory=dict)
    """Relative path -> BLAKE2b of its bytes."""

    def identity(self) -> str:
        """Derive the bundle id from what decides a feed: the files, features, blend, policy.

        Of the policy, what the manifest states: a choice that only a later version knows, at its
        default, changes no bundle's id.
        """
        parts = {
            "files": dict(self.files),
            "feature_hash": self.feature_hash,
            "blend": dict(self.blend),
            "policy": self.policy.model_dump(mode="json", exclude_unset=True),
        }
        return blake2b(dumps(parts, sort_keys=True).encode(), digest_size=8).hexdigest()


def file_checksum(path: Path) -> str:
    """Hash a file's bytes (BLAKE2b, 16 bytes, hexadecimal)."""
    digest = blake2b(digest_size=16)
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
