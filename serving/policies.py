"""Policies that feeds were ranked with, kept by hash so that records can be read for ever."""

from pathlib import Path

from pydantic import ValidationError

from contracts.errors import NotFound
from contracts.policy import Policy
from features.storage import write_durably


class PolicyShelf:
    """The policy in force, and every policy that any record names."""

    def __init__(self, folder: Path, current: Policy) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._known: dict[str, Policy] = {}
        self._hashes: dict[int, tuple[str, Policy]] = {}
        self.current = current
        self.keep(current)

    def keep(self, policy: Policy) -> None:
        """Write a policy down under its hash, once."""
        self._known[policy.hash] = policy
        path = self._folder / f"{policy.hash}.json"
        if not path.exists():  # whole or not at all: several processes may write it
            write_durably(path, policy.canonical())

    def hash_of(self, policy: Policy) -> str:
        """Give a policy's hash without computing it anew for each feed."""
        if id(policy) not in self._hashes:
            self._hashes[id(policy)] = (policy.hash, policy)  # held, so that the id stays its own
        return self._hashes[id(policy)][0]

    def by_hash(self, policy_hash: str) -> Policy:
        """Find a policy; NotFound where no record was ever made with it."""
        if policy_hash not in self._known:
            path = self._folder / f"{policy_hash}.json"
            if not path.exists():
                raise NotFound(f"policy {policy_hash} is not on the shelf")
            try:
                self._known[policy_hash] = Policy.model_validate_json(path.read_bytes())
            except ValidationError as error:
                raise NotFound(f"policy {policy_hash} is of another version") from error
        return self._known[policy_hash]
