"""The clock that tests move: what is due runs in order, at its own time."""

import pytest

from amqpjobs.broker.embedded.clock import ManualClock


def test_what_is_due_runs_at_its_own_time_and_in_order() -> None:
    """A callback sees the time for which it was set, not the end of the step."""
    clock = ManualClock()
    start = clock.time()
    seen: list[tuple[str, float]] = []
    clock.call_at(start + 2, lambda: seen.append(("second", clock.time() - start)))
    clock.call_at(start + 1, lambda: seen.append(("first", clock.time() - start)))
    clock.call_at(start + 9, lambda: seen.append(("late", clock.time() - start)))
    clock.advance(5)
    assert [name for name, _ in seen] == ["first", "second"]
    assert [at for _, at in seen] == pytest.approx([1, 2])
    assert clock.time() == pytest.approx(start + 5)


def test_a_timer_set_by_a_callback_runs_in_the_same_step_when_it_is_due() -> None:
    """Chains of timers (a ladder of delays) need one step only."""
    clock = ManualClock()
    seen: list[str] = []
    clock.call_at(
        clock.time() + 1,
        lambda: clock.call_at(clock.time() + 1, lambda: seen.append("chained")) and None,
    )
    clock.advance(3)
    assert seen == ["chained"]


def test_a_cancelled_timer_does_not_run() -> None:
    """Nor does it count as the next one."""
    clock = ManualClock()
    seen: list[str] = []
    clock.call_at(clock.time() + 1, lambda: seen.append("ran")).cancel()
    assert clock.next_at() is None
    clock.advance(2)
    assert not seen


def test_time_does_not_go_back() -> None:
    """A negative step is an error of the test."""
    with pytest.raises(ValueError, match="go back"):
        ManualClock().advance(-1)
