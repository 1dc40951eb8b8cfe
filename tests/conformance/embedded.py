"""The embedded broker in a thread of its own, so that tests can block."""

from collections.abc import Iterator
from contextlib import contextmanager

from amqpjobs.broker.embedded import Broker
from tests.conformance.peers import Peer, address_of


@contextmanager
def on_embedded(version: str) -> Iterator[Peer]:
    """A new embedded broker, for one test."""
    with Broker.in_thread(version) as broker:
        peer = Peer(version, address_of(broker.url), embedded=broker)
        try:
            yield peer
        finally:
            peer.close()
