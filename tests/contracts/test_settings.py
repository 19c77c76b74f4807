"""Settings: what is derived from them, and what is refused."""

from pathlib import Path

import pytest

from contracts.errors import InvalidInput
from contracts.settings import Settings, load_settings
from serving.components import Deadlines


def test_unhurried_settings_have_no_deadline_that_a_busy_machine_meets():
    calm = Settings().unhurried()
    limits = Deadlines.of(calm)
    assert calm.source_deadline_ms >= 60_000
    assert min(limits.feed_ms, limits.component_ms, limits.scorer_ms) >= 60_000


def test_a_file_that_is_not_toml_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "headwater.toml").write_text("port = \n")
    monkeypatch.chdir(tmp_path)
    load_settings.cache_clear()
    with pytest.raises(InvalidInput, match=r"headwater\.toml is not TOML"):
        load_settings()


@pytest.mark.parametrize("secret", ["", "short"])
def test_a_cursor_secret_that_anybody_can_guess_is_refused(
    secret: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HEADWATER_CURSOR_SECRET", secret)
    load_settings.cache_clear()
    with pytest.raises(InvalidInput, match="cursor_secret") as refused:
        load_settings()
    assert "short" not in str(refused.value).split("cursor_secret", 1)[0]
