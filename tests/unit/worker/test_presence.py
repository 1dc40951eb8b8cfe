"""Noticing that the process was away, and starting nothing until the broker has answered."""

import asyncio
import contextlib
import time

import pytest

from amqpjobs.worker import absence as presence_module
from amqpjobs.worker.absence import Presence


class Channel:
    """A subscription that answers when the test says so."""

    def __init__(self):
        self.asked = 0
        self.answer = asyncio.Event()

    async def answered(self):
        self.asked += 1
        await self.answer.wait()


@contextlib.asynccontextmanager
async def watching(presence, *channels):
    resumed = asyncio.Event()
    task = asyncio.create_task(presence.run(channels, resumed.set))
    await asyncio.sleep(0)
    try:
        yield resumed
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves on."""

    class Clock:
        now = 100.0

        def monotonic(self):
            return self.now

    moved = Clock()
    monkeypatch.setattr(presence_module, "time", moved)
    monkeypatch.setattr(presence_module, "TICK", 0.0)
    return moved


async def test_a_process_that_was_there_is_certain(clock):
    """And asks nobody."""
    presence, channel = Presence(), Channel()
    async with watching(presence, channel):
        clock.now += 1.9
        assert presence.certain()
        clock.now += 1.9
        assert presence.certain()
    assert channel.asked == 0


async def test_a_process_that_was_away_waits_for_every_answer(clock, caplog):
    """Each channel answers, or is gone; then what waits may be started."""
    presence, first, second = Presence(), Channel(), Channel()
    async with watching(presence, first, second) as resumed:
        clock.now += 2.1
        assert not presence.certain()
        assert not presence.certain()
        first.answer.set()
        for _ in range(10):
            await asyncio.sleep(0)
        assert not resumed.is_set()
        assert not presence.certain()
        second.answer.set()
        await asyncio.wait_for(resumed.wait(), 5)
        assert presence.certain()
    assert (first.asked, second.asked) == (1, 1)
    assert [r.message for r in caplog.records] == ["the process was away"]


async def test_an_absence_is_noticed_by_itself(clock):
    """Without any job that ends."""
    presence, channel = Presence(), Channel()
    channel.answer.set()
    async with watching(presence, channel) as resumed:
        clock.now += 60
        await asyncio.wait_for(resumed.wait(), 5)
    assert channel.asked == 1


async def test_a_blocked_loop_is_an_absence(monkeypatch):
    """By the real clock."""
    monkeypatch.setattr(presence_module, "ABSENT", 0.05)
    presence, channel = Presence(), Channel()
    async with watching(presence, channel):
        time.sleep(0.1)  # noqa: ASYNC251 - it blocks, on purpose
        assert not presence.certain()
