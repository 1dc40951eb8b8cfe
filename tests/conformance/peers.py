"""The brokers that every row runs on: RabbitMQ 3.10 and 4.3, and the embedded one as each of them.

A peer is one of them with a virtual host that is empty when a test begins.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from pamqp.commands import Exchange, Queue

from tests.conformance.client import Address, Channel, Client
from tests.conformance.events import ClosedError
from tests.conformance.wire import HungUpError
from tests.support.brokers.broker_server import Server

RELEASES: Final = {"3.10": "3.10.8", "4.3": "4.3.6"}


@dataclass
class Peer:
    """A broker under test.

    Attributes:
        version: "3.10" or "4.3": of RabbitMQ, or of the profile.
        server: the real server behind it; None for the embedded broker.
        embedded: the `amqpjobs.broker.embedded.Broker`; None for a real server.
    """

    version: str
    address: Address
    server: Server | None = None
    embedded: Any = None
    clients: list[Client] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"<Peer {'RabbitMQ' if self.server else 'embedded'} {self.version}>"

    def by_version(self, old: Any, new: Any) -> Any:
        """What differs: the first on 3.10, the second on 4.3."""
        return old if self.version == "3.10" else new

    @property
    def place(self) -> str:
        """How RabbitMQ's errors end."""
        return f"in vhost '{self.address.vhost}'"

    def connect(self, **tune: int) -> Client:
        """A new connection, closed with the test."""
        client = Client(self.address, **tune)
        self.clients.append(client)
        return client

    def channel(self) -> Channel:
        """A channel on a new connection."""
        return self.connect().channel()

    def as_user(self, user: str, password: str) -> "Peer":
        """The same broker for somebody else."""
        return replace(self, address=replace(self.address, user=user, password=password))

    def close(self) -> None:
        """Close the test's connections."""
        for client in self.clients:
            client.close()
        self.clients.clear()

    def clean(self) -> None:
        """Close the test's connections, and delete what they declared."""
        declared = {each: None for client in self.clients for each in client.declared}
        self.close()
        names = [each for each in declared if not each[1].startswith("amq.")]
        if names:
            client = Client(self.address)
            for kind, name in names:
                with suppress(ClosedError, HungUpError):
                    delete = Queue.Delete if kind == "queue" else Exchange.Delete
                    client.channel().call(delete(0, name))
            client.close()


def address_of(url: str) -> Address:
    """Of a broker at such a URL."""
    parts = urlsplit(url)
    return Address(
        parts.hostname or "127.0.0.1",
        parts.port or 5672,
        unquote(parts.path[1:]) or "/",
        unquote(parts.username or "guest"),
        unquote(parts.password or "guest"),
    )


@contextmanager
def on_server(server: Server, vhost: str) -> Iterator[Peer]:
    """A real server, for one test."""
    peer = Peer(server.version, replace(address_of(server.url), vhost=vhost), server)
    try:
        yield peer
    finally:
        peer.clean()
