"""Settings: what is derived from them."""

from contracts.settings import Settings
from serving.components import Deadlines


def test_unhurried_settings_have_no_deadline_that_a_busy_machine_meets():
    calm = Settings().unhurried()
    limits = Deadlines.of(calm)
    assert calm.source_deadline_ms >= 60_000
    assert min(limits.feed_ms, limits.component_ms, limits.scorer_ms) >= 60_000
