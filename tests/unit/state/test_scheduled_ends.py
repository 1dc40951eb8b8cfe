"""The store is told that a job of a schedule has ended, until it knows."""

import asyncio
import logging
from typing import Any

import pytest

from amqpjobs.errors import StoreUnavailable
from amqpjobs.state.schedules import ended as module
from amqpjobs.state.schedules.ended import EndedTicks


class Store:
    """A store that is away for a while."""

    now = 0.0

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.told: list[Any] = []

    async def run(self, function: Any, app: str, ended: Any, now: float) -> int:
        """See `DurableStore.run`."""
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("it is away")
        self.told.append((app, tuple(ended)))
        return 1


async def test_it_is_told_again_while_the_store_is_away(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """All that has ended meanwhile at once; it says so once."""
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)
    store, sent = Store(3), asyncio.Event()

    async def opened() -> Any:
        return store

    ended = EndedTicks("shop", opened, sent.set)
    with caplog.at_level(logging.WARNING, "amqpjobs.schedules"):
        ended.add("a", "1")
        ended.add("b", "2")
        async with asyncio.timeout(10):
            await sent.wait()
        await ended.finish(5)
    assert store.told == [("shop", (("a", "1"), ("b", "2")))]
    assert ended.idle
    assert [record.message for record in caplog.records] == [
        "ends of scheduled jobs not stored, will be later"
    ]
    assert not await ended.tell()
    await ended.close()
