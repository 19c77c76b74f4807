"""The results file: one section a set, replaced when the set is run again."""

from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap
from pathlib import Path

from training.evaluate import ModelRow
from training.intervals import Interval
from training.metrics import KS
from training.report import write_results
from training.stages import StageClock


def row(name: str, model: str, value: float) -> ModelRow:
    found = Interval(value, value - 0.1, value + 0.1)
    metrics = {f"{m}@{k}": found for m in ("recall", "ndcg", "hr", "mrr") for k in KS}
    return ModelRow(
        set=name, protocol="by hand", model=model, people=3, metrics=metrics,
        over_popularity=found, over_best_single=found, lists={"coverage@20": 0.5},
        slices={"cold": found},
    )  # fmt: skip


def test_merges_by_set(tmp_path: Path) -> None:
    path = tmp_path / "docs" / "results.md"
    write_results(path, [row("b-set", "deep", 0.5)], {"click.auc": 0.7}, {"Data": "ten rows"})
    write_results(path, [row("a-set", "deep", 0.6)], {}, {})
    write_results(path, [row("b-set", "deep", 0.25), row("b-set", "random", 0.125)], {}, {})
    text = path.read_text()
    assert text.index("## a-set") < text.index("## b-set")
    assert text.count("## b-set") == 1
    assert "0.2500 [0.1500, 0.3500]" in text
    assert "0.5000 [" not in text
    assert "0.6000 [" in text
    again = [row("b-set", "deep", 0.25), row("b-set", "random", 0.125)]
    write_results(path, again, {}, {})
    assert path.read_text() == text


def stages_have_their_own_peak() -> bool:
    """Tell whether the system lets a process forget its peak; else it is the whole process's."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def test_clock_tells_what_each_stage_cost() -> None:
    seen: list[str] = []
    clock = StageClock(seen.append, lambda cost: seen.append(f"{cost.name} done"))
    with clock.stage("one"), mmap(-1, 64 << 20, flags=MAP_PRIVATE | MAP_ANONYMOUS) as held:
        held[:: 1 << 12] = bytes(1 << 14)  # each page is touched, and none is of the heap
    with clock.stage("one"):
        pass
    assert seen == ["one", "one done", "one", "one done"]
    assert min(cost.peak_mb for cost in clock.costs) > 0.0
    if stages_have_their_own_peak():
        assert clock.costs[0].peak_mb > clock.costs[1].peak_mb + 30.0
    assert [cost.name for cost in clock.costs] == ["one", "one"]
