"""The certificate of a home: green as it is, red for every broken join; and the gate on it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import typer

from contracts.clock import DAY_US
from contracts.errors import Conflict, InvalidInput
from contracts.events import UTC_US
from features.caches import FeatureCache
from features.certificate import CERTIFICATE_FILE, Certificate, read_certificate
from features.counters import CounterState
from features.event_arrays import int_column
from features.frames import FeatureFrames, replay
from features.history import IS_UNDO
from features.offline import asof_join
from features.views import FEATURE_HASH, FEATURES, POST_VIEW
from features.workspace import Workspace
from pipelines import certify as certifying
from pipelines.certify import Paths, certify, certify_home, require_certificate
from pipelines.commands.certify import certify as command
from pipelines.console import Reporter
from pipelines.publish import publish_bundle
from training.reading import FeatureSource

SAMPLES = 40
Cook = Callable[[FeatureFrames], FeatureFrames]


def certified(home: Path, paths: Paths | None = None) -> Certificate:
    with Workspace.open(home, read_only=True) as workspace:
        return certify(workspace, SAMPLES, paths or Paths())


def broken(made: Certificate) -> set[str]:
    return {check.name for check in made.checks if not check.holds}


class CookedSource:
    """Training's features over a log that a broken join has read wrongly."""

    def __init__(self, frames: FeatureFrames, cook: Cook) -> None:
        self.frames, self.cook = frames, cook

    def __call__(self, *queries: Any) -> np.ndarray:
        return FeatureSource(self.cook(self.frames))(*queries)

    def hidden_from(self, viewer_ids: np.ndarray, from_us: np.ndarray) -> "CookedSource":
        hidden = FeatureSource(self.frames).hidden_from(viewer_ids, from_us)
        return CookedSource(hidden.frames, self.cook)


def with_column(frames: FeatureFrames, name: str, us: np.ndarray) -> FeatureFrames:
    at = frames.events.column_names.index(name)
    column = pa.array(us).cast(UTC_US)
    return replace(frames, events=frames.events.set_column(at, name, column))


def by_event_time_alone(frames: FeatureFrames) -> FeatureFrames:
    return with_column(frames, "known_time", int_column(frames.events, "event_time"))


def inclusive_at_the_moment(frames: FeatureFrames) -> FeatureFrames:
    earlier = int_column(frames.events, "event_time") - 1
    return with_column(frames, "event_time", earlier)


def a_moment_too_late(frames: FeatureFrames) -> FeatureFrames:
    return with_column(frames, "known_time", int_column(frames.events, "known_time") + 1)


def without_undoing(frames: FeatureFrames) -> FeatureFrames:
    kept = ~IS_UNDO[frames.events.column("type").to_numpy()]
    return replace(frames, events=frames.events.filter(pa.array(kept)))


def fanned_out(frames: FeatureFrames) -> FeatureFrames:
    return replace(frames, events=pa.concat_tables([frames.events, frames.events]))


@pytest.fixture(scope="module")
def whole(small_home: Path) -> Certificate:
    return certified(small_home)


def test_a_sound_home_is_green(whole: Certificate) -> None:
    assert whole.green, whole.reasons
    assert whole.feature_hash == FEATURE_HASH
    assert whole.log[0] == 1
    assert whole.counts["values"] == whole.counts["pairs"] * len(FEATURES) > 50_000
    assert all(row.beyond == 0 for row in whole.features)
    assert sum(row.present > 0 for row in whole.features) >= 36
    assert [c.name for c in whole.checks if c.name.startswith("served")][
        -1
    ] == "served as loaded now"
    assert len([c for c in whole.checks if c.name.startswith("served as patched")]) == 3
    assert whole.seconds < 10


def test_the_same_home_gives_the_same_certificate(small_home: Path, whole: Certificate) -> None:
    again = certified(small_home)
    assert again.checks == whole.checks
    assert again.features == whole.features


LATE = "planted: happened before the moment, known after it"
AT = "planted: happened at the moment itself"
UNDONE = "planted: done and undone before the moment"
JUST = "planted: happened and known just in time"


@pytest.mark.parametrize(
    ("cook", "names"),
    [
        (by_event_time_alone, {LATE}),
        (inclusive_at_the_moment, {AT}),
        (a_moment_too_late, {JUST}),
        (without_undoing, {UNDONE}),
        (fanned_out, {JUST, "served as loaded now"}),
    ],
)
def test_a_join_that_reads_the_log_wrongly_is_red(
    small_home: Path, cook: Cook, names: set[str]
) -> None:
    made = certified(small_home, Paths(source=lambda frames: CookedSource(frames, cook)))
    assert names <= broken(made)
    for name in names:
        reason = next(line for line in made.reasons if line.startswith(name))
        assert any(f"{feature} differs in" in reason for feature in FEATURES)
        assert "viewer" in reason
        assert "served" in reason


class Rolled(FeatureSource):
    """Gives each query the rows of another viewer."""

    def __call__(self, viewer_ids: Any, *rest: Any) -> Any:
        return FeatureSource(self.frames)(np.roll(viewer_ids, 1), *rest)


class Tomorrow(FeatureSource):
    """Takes the state after the moment, where that before it was asked for."""

    def __call__(self, viewer_ids: Any, times_us: Any, *rest: Any) -> Any:
        return FeatureSource(self.frames)(viewer_ids, times_us + DAY_US, *rest)


class NothingHidden(FeatureSource):
    """Trains on what it should predict, in sets split by each person's order."""

    def hidden_from(self, viewer_ids: Any, from_us: Any) -> FeatureSource:
        return self


@pytest.mark.parametrize(
    ("source", "names"),
    [
        (Rolled, {"served as loaded now", "planted: all known later"}),
        (Tomorrow, {LATE, AT, "planted: happened after the moment"}),
        (NothingHidden, {"planted: hidden from the moment on"}),
    ],
)
def test_a_source_of_other_rows_is_red(
    small_home: Path, source: Callable[[FeatureFrames], FeatureSource], names: set[str]
) -> None:
    found = broken(certified(small_home, Paths(source=source)))
    assert names <= found
    assert source is not NothingHidden or found == names


def test_labels_that_are_visible_at_their_own_moment_are_told(small_home: Path) -> None:
    def early(frames: FeatureFrames) -> FeatureFrames:
        seconds = int_column(frames.events, "known_time") - 10**6
        return with_column(with_column(frames, "known_time", seconds), "event_time", seconds)

    made = certified(small_home, Paths(source=lambda frames: CookedSource(frames, early)))
    said = [line for line in (*made.warnings, *made.reasons) if line.startswith("labels at")]
    assert said
    assert "without the label" in said[0]


def served_with_another_half_life(frames: FeatureFrames) -> FeatureCache:
    """Start a cache whose posts forget twice as slowly as training has it."""
    state = replay(frames)
    counters = state.posts.counters
    slower = CounterState([2 * c.half_life_us for c in POST_VIEW.counters], len(counters.last_us))
    slower.restore(np.arange(len(counters.last_us)), counters.values, counters.last_us)
    state.posts.counters = slower
    return FeatureCache(state)


def test_a_transform_changed_only_online_is_red(small_home: Path) -> None:
    made = certified(small_home, Paths(serve=served_with_another_half_life))
    assert "served as loaded now" not in broken(made)
    rows = {row.feature: row for row in made.features}
    for name in ("post_positive_6h", "post_like_7d", "post_impression_7d"):
        assert rows[name].beyond > 0
        assert rows[name].max_abs > 0.01
    for name in ("post_like_all", "post_age", "author_positive_7d", "viewer_like_7d"):
        assert rows[name].different == 0
    assert any("differs in" in reason and "by up to" in reason for reason in made.reasons)


def test_a_loaded_state_that_differs_is_red(small_home: Path) -> None:
    def stale(workspace: Workspace, up_to_seq: int) -> FeatureCache:
        return FeatureCache.load(workspace, up_to_seq=up_to_seq - 200)

    assert broken(certified(small_home, Paths(load=stale))) == {"served as loaded now"}


def test_a_join_of_snapshots_that_reads_ahead_is_red(small_home: Path) -> None:
    def ahead(ids: Any, times: Any, table: Any, columns: Any, *, key: str) -> Any:
        return asof_join(ids, times + DAY_US, table, columns, key=key)

    found = broken(certified(small_home, Paths(join=ahead)))
    assert found == {f"as-of join of {kind}_state" for kind in ("post", "author", "person")}


def test_too_little_to_compare_is_said(tmp_path: Path) -> None:
    Workspace.open(tmp_path).close()
    with pytest.raises(InvalidInput, match="holds 0 events, too few"):
        certify_home(tmp_path)


def test_the_gate_makes_what_is_missing_and_keeps_it(
    small_home_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = small_home_copy
    (home / CERTIFICATE_FILE).unlink(missing_ok=True)
    with pytest.raises(Conflict, match=r"there is none.*headwater features certify"):
        require_certificate(home, 1, make=None)
    require_certificate(home, 1, Reporter(), lambda folder: certify_home(folder, SAMPLES))
    said = capsys.readouterr().out
    assert "there is none" in said
    assert "green" in said
    require_certificate(home, 1, make=None)
    held = read_certificate(home)
    assert held is not None
    with pytest.raises(Conflict, match="the bundle learnt up to"):
        require_certificate(home, held.last_seq + 1, make=None)


def test_the_gate_refuses_red_and_another_code(
    small_home_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def red(folder: Path) -> Certificate:
        paths = Paths(source=lambda frames: CookedSource(frames, by_event_time_alone))
        return certify_home(folder, SAMPLES, paths)

    (small_home_copy / CERTIFICATE_FILE).unlink(missing_ok=True)
    with pytest.raises(Conflict, match=r"the feature certificate is red\. .* differs in"):
        require_certificate(small_home_copy, 1, make=red)
    with pytest.raises(Conflict, match="it is red"):
        require_certificate(small_home_copy, 1, make=None)
    certify_home(small_home_copy, SAMPLES)
    monkeypatch.setattr(certifying, "code_of_features", lambda: "of another day")
    with pytest.raises(Conflict, match="the code that computes features has changed"):
        require_certificate(small_home_copy, 1, make=None)


@pytest.mark.slow
def test_publishing_makes_a_certificate_first(small_home_copy: Path) -> None:
    (small_home_copy / CERTIFICATE_FILE).unlink(missing_ok=True)
    bundle = (small_home_copy / "bundles" / "CHAMPION").read_text().strip()
    (small_home_copy / "bundles" / "CHAMPION").unlink()
    publish_bundle(small_home_copy, bundle)
    held = read_certificate(small_home_copy)
    assert held is not None
    assert held.green


def test_the_command_prints_the_verdict_and_fails_on_red(
    small_home_copy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command(SAMPLES, home=small_home_copy, as_json=True)
    shown = capsys.readouterr()
    found = json.loads(shown.out.splitlines()[-1])
    assert found["ok"] is found["green"] is True
    assert found["feature_hash"] == FEATURE_HASH
    assert "Certificate green" in shown.err
    source = Paths(source=Tomorrow)
    monkeypatch.setattr(
        "pipelines.commands.certify.certify_home",
        lambda home, samples: certify_home(home, samples, source),
    )
    with pytest.raises(typer.Exit) as stop:
        command(SAMPLES, home=small_home_copy, as_json=False)
    assert stop.value.exit_code == 1
    shown = capsys.readouterr()
    assert "Certificate red" in shown.out
    assert "differs in" in shown.out
    assert read_certificate(small_home_copy).green is False
