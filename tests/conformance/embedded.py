"""The embedded broker in a thread of its own, so that tests can block."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from amqpjobs.embedded import Broker

from tests.conformance.peers import Peer, address_of

T = TypeVar("T")


class Loop:
    """An event loop that runs in a thread until it is closed."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="embedded broker")
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it there, and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    def close(self) -> None:
        """Stop the loop and its thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextmanager
def on_embedded(loop: Loop, version: str) -> Iterator[Peer]:
    """A new embedded broker, for one test."""

    async def start() -> Broker:
        broker = Broker(version)
        await broker.start()
        return broker

    broker = loop.run(start())
    peer = Peer(version, address_of(broker.url), embedded=broker)
    try:
        yield peer
    finally:
        peer.close()
        loop.run(broker.stop())
