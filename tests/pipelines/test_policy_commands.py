"""Policies by name, file and bundle; what each command prints."""

import json
from pathlib import Path

import pytest

from contracts.errors import InvalidInput, NotFound
from contracts.policy import Policy, fixed_blend
from pipelines.commands.policy import diff, show, validate
from pipelines.policies import BUILT_IN, find_policy, parse_policy


def last_json(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_policies_carry_their_name(name: str, tmp_path: Path) -> None:
    assert find_policy(name, tmp_path).name == name


def test_a_policy_is_found_in_a_file_and_in_a_bundle(tmp_path: Path) -> None:
    policy = Policy(name="mine", out_of_network=0.5)
    path = tmp_path / "mine.json"
    path.write_bytes(policy.canonical())
    bundle = tmp_path / "bundles" / "0123456789abcdef"
    bundle.mkdir(parents=True)
    (bundle / "manifest.json").write_text(
        json.dumps({"policy": fixed_blend().model_dump(mode="json")})
    )
    assert find_policy(str(path), tmp_path) == policy
    assert find_policy("0123456789abcdef", tmp_path) == fixed_blend()


def test_an_unknown_policy_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="built-in names are ensemble, fixed-blend, popular"):
        find_policy("nothing", tmp_path)


def test_a_bad_policy_names_every_field() -> None:
    text = '{"name": "x", "weights": {"like": "much"}, "colour": 1}'
    with pytest.raises(InvalidInput, match=r"weights\.like: .*; colour: ") as caught:
        parse_policy(text, "x.json")
    assert caught.value.hint is not None


def test_show_prints_each_weight(capsys: pytest.CaptureFixture[str]) -> None:
    show("ensemble")
    shown = capsys.readouterr().out
    assert "weights.report" in shown
    assert "-234.0" in shown


def test_show_json_gives_back_the_policy(capsys: pytest.CaptureFixture[str]) -> None:
    show("fixed-blend", as_json=True)
    found = last_json(capsys)
    assert Policy.model_validate(found["policy"]) == fixed_blend()
    assert found["hash"] == fixed_blend().hash


def test_validate_prints_the_hash(capsys: pytest.CaptureFixture[str]) -> None:
    validate("popular", as_json=True)
    assert last_json(capsys)["ok"] is True


def test_diff_lists_what_changes(capsys: pytest.CaptureFixture[str]) -> None:
    diff("ensemble", "fixed-blend", as_json=True)
    changes = last_json(capsys)["changes"]
    assert {"path": "scorer", "before": "ensemble", "after": "fixed_blend"} in changes  # type: ignore[operator]
