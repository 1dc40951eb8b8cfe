"""What is known of a job is a function of its events, and not of their order."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqpjobs.jobs.message.events import ENDED, STATES, Event, order_of
from amqpjobs.state.status.values import merged, row_of, status_of


def event(state: str = "started", **keys: object) -> Event:
    made = {"id": "1", "job": "j", "queue": "q", "epoch": 0, "attempt": 1, "sequence": 1, **keys}
    return {**made, "state": state}  # type: ignore[typeddict-item]


def status(*events: Event):
    rows = [row_of(e) for e in events]
    row = rows[0]
    for other in rows[1:]:
        row = merged(row, other)
    return status_of(row, now=0.0)


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """Events of one job, each at a time of its own."""
    sequences = draw(st.lists(st.integers(0, 2**62), unique=True, min_size=1, max_size=8))
    events = []
    for sequence in sequences:
        state = draw(st.sampled_from(STATES))
        made = event(
            state, sequence=sequence, epoch=draw(st.integers(0, 2)), attempt=draw(st.integers(0, 3))
        )
        if draw(st.booleans()):
            made["started"] = draw(st.floats(0, 1e9))
        if draw(st.booleans()):
            made["progress"] = draw(st.floats(0, 1))
            made["detail"] = draw(st.text("aä€😀", max_size=3))
        if draw(st.booleans()):
            made["error"] = draw(st.text("aä€😀", max_size=3))
        if draw(st.booleans()):
            made["tags"] = draw(st.lists(st.text("aä", min_size=1, max_size=2), max_size=2))
        if state == "done" and draw(st.booleans()):
            made["result"] = draw(st.none() | st.integers() | st.lists(st.text("ab", max_size=2)))
        events.append(made)
    return events


@given(history=histories(), seed=st.randoms(use_true_random=False))
def test_any_order_and_any_repetition_give_the_same(
    history: list[Event], seed: random.Random
) -> None:
    """Late, twice, in between."""
    mixed = history * 2
    seed.shuffle(mixed)
    assert status(*mixed) == status(*history)


@given(history=histories())
def test_the_newest_event_says_how_the_job_is(history: list[Event]) -> None:
    """By epoch, attempt, whether it is an end, and time."""
    newest = max(history, key=order_of)
    assert status(*history).state == newest["state"]


def test_clocks_that_differ_do_not_hide_an_end() -> None:
    """A worker whose clock is behind ends a job that another gave back "later"; and a publisher
    whose clock is ahead has still queued it before."""
    ahead = event("queued", attempt=0, sequence=9_000_000)
    released = event("released", sequence=5_000_000)
    done = event("done", sequence=1_000_000, started=0.5)
    found = status(released, done, ahead)
    assert (found.state, found.ended_at, found.queued_at) == ("done", 1.0, 9.0)


def test_a_replay_starts_again() -> None:
    """It is newer than whatever was before it, and keeps when it was enqueued first."""
    found = status(
        event("queued", attempt=0, sequence=1_000_000),
        event("failed", attempt=8, sequence=5_000_000),
        event("started", epoch=1, sequence=4_000_000, started=4.0),
    )  # fmt: skip
    assert (found.state, found.attempt, found.epoch) == ("started", 1, 1)
    assert (found.queued_at, found.started_at, found.ended_at) == (1.0, 4.0, None)


@pytest.mark.parametrize("state", STATES)
def test_a_job_is_over_when_nothing_more_comes_of_it(state: str) -> None:
    """What is parked waits for a worker that knows it."""
    assert status(event(state)).ended is (state in ENDED)
    assert (state in ENDED) == (state in {"done", "failed", "expired", "cancelled", "skipped"})


def test_a_result_expires() -> None:
    """By itself, whether or not anybody has pruned it."""
    row = row_of(event("done", sequence=10_000_000, result=None, keep=5.0))
    assert status_of(row, now=14.0).has_result
    assert status_of(row, now=14.0).result is None
    assert not status_of(row, now=15.5).has_result
