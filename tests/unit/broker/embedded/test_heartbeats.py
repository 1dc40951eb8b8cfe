"""Heartbeats by a clock that the test moves."""

import pytest

from amqpjobs.broker.embedded.clock import ManualClock
from amqpjobs.broker.embedded.server.heartbeats import Heartbeats


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


class Peer:
    """What happens to one connection."""

    def __init__(self, clock: ManualClock, interval: float) -> None:
        self.events: list[str] = []
        self.spoke = False
        self.heartbeats = Heartbeats(
            lambda delay, callback: clock.call_at(clock.time() + delay, callback),
            self.has_spoken,
            self.beat,
            self.silent,
        )
        self.heartbeats.start(interval)

    def has_spoken(self) -> bool:
        spoke, self.spoke = self.spoke, False
        return spoke

    def beat(self) -> None:
        self.events.append("beat")

    def silent(self) -> None:
        self.events.append("silent")


def test_it_beats_at_half_the_interval_when_it_has_nothing_else_to_say(clock: ManualClock) -> None:
    """Whatever was sent is as good."""
    peer = Peer(clock, 10)
    clock.advance(5)
    assert peer.events == ["beat"]
    peer.spoke = True
    clock.advance(5)
    assert peer.events == ["beat"]
    clock.advance(5)
    assert peer.events == ["beat", "beat"]


def test_a_client_that_is_silent_for_two_intervals_is_dead(clock: ManualClock) -> None:
    """And nothing more is sent to it."""
    peer = Peer(clock, 10)
    peer.heartbeats.heard = True
    clock.advance(29)
    assert "silent" not in peer.events
    clock.advance(1)
    assert peer.events[-1] == "silent"
    beats = len(peer.events)
    clock.advance(100)
    assert len(peer.events) == beats


def test_anything_that_is_heard_is_a_sign_of_life(clock: ManualClock) -> None:
    """One sign an interval is enough."""
    peer = Peer(clock, 10)
    for _ in range(10):
        peer.heartbeats.heard = True
        clock.advance(10)
    assert "silent" not in peer.events


def test_silence_does_not_count_while_the_broker_does_not_read(clock: ManualClock) -> None:
    """It could not hear; afterwards two whole intervals count again."""
    peer = Peer(clock, 10)
    peer.heartbeats.pause(True)
    clock.advance(100)
    peer.heartbeats.pause(False)
    clock.advance(19)
    assert "silent" not in peer.events
    clock.advance(1)
    assert peer.events[-1] == "silent"


def test_an_interval_of_zero_means_none(clock: ManualClock) -> None:
    """Neither sent nor missed."""
    peer = Peer(clock, 0)
    clock.advance(1000)
    assert peer.events == []


def test_none_after_the_end(clock: ManualClock) -> None:
    """A connection that is gone needs none."""
    peer = Peer(clock, 10)
    peer.heartbeats.stop()
    clock.advance(1000)
    assert peer.events == []
