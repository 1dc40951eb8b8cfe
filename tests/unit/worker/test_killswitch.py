"""The kill switch as a state machine: when it pauses a queue, tries it, and resumes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqpjobs import KillSwitch, Reject, RetryAfter
from amqpjobs.errors import RemoteError
from amqpjobs.jobs.message.failure import Failure
from amqpjobs.jobs.outcome import (
    DONE_NOTHING,
    Answered,
    Cancelled,
    Expired,
    Parked,
    Rejected,
    Released,
    Retried,
    Snoozed,
    Superseded,
)
from amqpjobs.worker.flow.kill_switch import SLICES, Switch, speaks

POLICIES = st.builds(
    KillSwitch,
    ratio=st.sampled_from([0, 0.25, 0.5, 0.9]),
    at_least=st.integers(1, 8),
    window=st.sampled_from([1.0, 20.0]),
    pause=st.just(5.0),
    longest=st.sampled_from([5.0, 12.0, 40.0]),
)
RUNS = st.lists(st.tuples(st.floats(0, 5), st.booleans()), max_size=60)
"""Seconds since the one before, and whether it failed."""


def tripped(policy, now=0.0):
    switch = Switch(policy)
    for _ in range(policy.at_least):
        switch.run_ended(0, True, now)
    assert switch.state == "paused"
    return switch


@given(POLICIES, RUNS)
def test_it_pauses_exactly_when_too_many_of_enough_runs_failed(policy, runs):
    """Against a list of all runs: those of the window's slices, counted anew each time."""
    switch = Switch(policy)
    now, seen = 0.0, []
    width = policy.window / SLICES
    for gap, failed in runs:
        now += gap
        seen.append((now // width, failed))
        recent = [f for slice_, f in seen if slice_ > now // width - SLICES]
        due = failed and len(recent) >= policy.at_least and sum(recent) > policy.ratio * len(recent)
        assert switch.run_ended(0, failed, now) == due
        if due:
            assert (switch.failed, switch.ended) == (sum(recent), len(recent))
            assert (switch.state, switch.resumes_at) == ("paused", now + policy.pause)
            return
        assert switch.state == "consuming"


@given(POLICIES, RUNS, st.data())
def test_whatever_happens_the_states_follow_each_other(policy, runs, data):
    """From paused only to trying and not before its time, from trying by one run, and a run that
    was started in another epoch changes nothing."""
    switch = Switch(policy)
    now, epochs = 0.0, [0]
    for gap, failed in runs:
        now += gap
        before, paused_until = switch.state, switch.resumes_at
        if switch.look(now):
            assert (before, switch.state) == ("paused", "trying")
            assert now >= paused_until
        epoch, state = data.draw(st.sampled_from(epochs)), switch.state
        turned = switch.run_ended(epoch, failed, now)
        assert turned == (state != switch.state)
        if epoch != epochs[-1] or state == "paused":
            assert not turned or epoch == switch.epoch - 1
        if turned and state == "trying":
            assert switch.state == ("paused" if failed else "consuming")
        if switch.state == "paused":
            assert policy.pause <= switch.pause <= policy.longest
        epochs.append(switch.epoch)


def test_each_pause_is_twice_the_one_before_up_to_the_longest():
    """And the first one again, once a run has succeeded."""
    switch = tripped(KillSwitch(at_least=3, pause=10, longest=35))
    now, pauses = 0.0, []
    for _ in range(4):
        pauses.append(switch.pause)
        now = switch.resumes_at
        assert not switch.look(now - 0.01)
        assert switch.look(now)
        assert switch.run_ended(switch.epoch, True, now)
    assert pauses == [10, 20, 35, 35]
    switch.look(switch.resumes_at)
    assert switch.run_ended(switch.epoch, False, now)
    assert switch.state == "consuming"
    for _ in range(3):
        switch.run_ended(switch.epoch, True, now)
    assert (switch.state, switch.pause) == ("paused", 10)


def test_what_was_started_before_the_pause_says_nothing_about_the_trial():
    """A slow run that began when all was well, and ends when one job is tried."""
    switch = tripped(KillSwitch(at_least=2, pause=10))
    assert not switch.run_ended(0, False, 1.0)
    switch.look(10.0)
    assert not switch.run_ended(0, False, 11.0)
    assert not switch.run_ended(0, True, 11.0)
    assert switch.state == "trying"
    assert switch.run_ended(switch.epoch, False, 12.0)


def test_old_failures_are_forgotten():
    """A failure now and then, and a slow queue: no outage."""
    switch = Switch(KillSwitch(at_least=2, ratio=0, window=60))
    for minute in range(10):
        assert not switch.run_ended(0, True, 61.0 * minute)
    assert switch.ended == 1


def test_a_fast_queue_costs_no_memory():
    """A hundred thousand runs in a window are twenty numbers."""
    switch = Switch(KillSwitch(window=60))
    for n in range(100_000):
        switch.run_ended(0, False, n / 1000)
    assert len(switch._window._slices) <= SLICES
    assert 57_000 <= switch.ended <= 60_000


def test_it_says_how_it_stands():
    """In logs and in tests."""
    assert repr(Switch(KillSwitch())) == "<Switch: consuming, 0 of 0 failed>"


def failure(reason="failed"):
    return Failure(reason, "")


DOWN, BUG = ConnectionRefusedError(), KeyError()
REMOTE = RemoteError(
    "", exception="x.Down", kinds=("x.Down", "ConnectionError"), frames=(), traceback=""
)


@pytest.mark.parametrize(
    ("outcome", "says"),
    [
        (DONE_NOTHING, False),
        (Retried(failure(), 1.0, DOWN), True),
        (Retried(failure(), 1.0, REMOTE), True),
        (Retried(failure(), 1.0, BUG), False),
        (Retried(failure(), 1.0, RetryAfter(5)), False),
        (Rejected(failure(), DOWN), True),
        (Rejected(failure(), BUG), False),
        (Rejected(failure("rejected"), Reject("no")), False),
        (Rejected(failure("rejected"), None), False),
        (Rejected(failure("invalid"), ValueError()), None),
        (Rejected(failure("undecodable"), ValueError()), None),
        (Snoozed(1.0), None),
        (Released("stop"), None),
        (Expired(1.0), None),
        (Cancelled(), None),
        (Answered(Failure("failed", "x"), ConnectionError()), True),
        (Superseded(), None),
        (Parked(failure("unknown-job")), None),
    ],
)
def test_what_a_run_says_about_the_dependency(outcome, says):
    """Down, not down, or nothing: it never got so far."""
    assert speaks(KillSwitch(), outcome) is says
