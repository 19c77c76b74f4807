"""`headwater policy`: read, check and compare ranking policies."""

from typing import Annotated

import typer

from pipelines.console import AsJson, Cell, Home, Reporter, home_of
from pipelines.policies import find_policy

Ref = Annotated[str, typer.Argument(help="A built-in name, a JSON file, or a bundle's id.")]


def show(policy: Ref = "ensemble", home: Home = None, as_json: AsJson = False) -> None:
    """Print a policy: every weight, cap, share and multiplier of ranking."""
    report = Reporter(as_json)
    found = find_policy(policy, home_of(home))
    report.table(
        f"Policy {found.name}, hash {found.hash}",
        ("setting", "value"),
        [(path, _text(value)) for path, value in found.leaves().items()],
    )
    report.finish({"hash": found.hash, "policy": found.model_dump(mode="json")})


def validate(policy: Ref, home: Home = None, as_json: AsJson = False) -> None:
    """Check a policy file and print its hash."""
    report = Reporter(as_json)
    found = find_policy(policy, home_of(home))
    report.say(f"{policy} is a valid policy: {found.name}, hash {found.hash}", style="green")
    report.finish({"ok": True, "name": found.name, "hash": found.hash})


def diff(before: Ref, after: Ref, home: Home = None, as_json: AsJson = False) -> None:
    """List what changes from one policy to another."""
    report = Reporter(as_json)
    first, second = find_policy(before, home_of(home)), find_policy(after, home_of(home))
    changes = first.diff(second)
    report.table(
        f"From {first.name} ({first.hash}) to {second.name} ({second.hash})",
        ("setting", "before", "after"),
        [(c.path, _text(c.before), _text(c.after)) for c in changes],
    )
    report.finish(
        {
            "before": first.hash,
            "after": second.hash,
            "changes": [change._asdict() for change in changes],
        }
    )


def _text(value: object) -> Cell:
    return None if value is None else str(value)
