"""Reaching RabbitMQ by its URL: names are resolved in a thread of their own, and every address of
every node is tried in turn. Changes when addresses are found or chosen otherwise.
"""

import asyncio
import ipaddress
import random
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from amqpjobs.broker.rabbitmq.own_thread import in_own_thread
from amqpjobs.broker_url import Node

P = TypeVar("P", bound=asyncio.Protocol)
T = TypeVar("T")

LEAST_SHARE = 3.0
"""Seconds that each of several addresses has at least: for the connection, TLS and the login, also
of a node that is busy. Less only where the whole ``connect_timeout`` is less."""


@dataclass(frozen=True, slots=True)
class Place:
    """One address of one node.

    Attributes:
        node: as the URL names it; the certificate is checked for its host.
        address: IPv4 or IPv6, as text.
    """

    node: Node
    address: str

    def __str__(self) -> str:
        return str(self.node) if self.address == self.node.host else f"{self.node} ({self.address})"


class Round:
    """Every address of every node, each once, with the time that it may take.

    The nodes come in random order, so that workers spread over the cluster, and so do the addresses
    of one name; those of the family that the machine prefers come first. The node that was lost
    last comes last: it may still accept connections that come to nothing.

    Args:
        nodes: of the URL.
        seconds: for all of them. What one does not use is left for the others.
        lost: where the last connection was.

    Attributes:
        node: the one that is tried, or was last.
        where: the same, with its address if it is known, as text.
        seconds: that its attempt may take.
    """

    def __init__(self, nodes: Sequence[Node], seconds: float, lost: Place | None) -> None:
        self._clock = asyncio.get_running_loop().time
        self._end = self._clock() + seconds
        self._least = min(seconds, LEAST_SHARE)
        self._lost = lost
        self._nodes = _shuffled(nodes, lambda node: lost is not None and node == lost.node)
        self._places: list[Place] = []
        self.node = self._nodes[0]
        self.where = str(self.node)
        self.seconds = self.share

    def __repr__(self) -> str:
        return f"<Round: {len(self._nodes)} nodes and {len(self._places)} addresses left>"

    @property
    def left(self) -> bool:
        """Whether there is another node or address."""
        return bool(self._nodes or self._places)

    @property
    def share(self) -> float:
        """Seconds for the next step: an equal share of what is left, at least `LEAST_SHARE`."""
        steps = len(self._nodes) + len(self._places)
        return max((self._end - self._clock()) / max(steps, 1), self._least)

    async def next(self) -> Place:
        """The next address.

        Raises:
            OSError: the next node's name has no address, or no name server answers; another call
                goes on with the node behind it.
        """
        if not self._places:
            self.seconds, self.node = self.share, self._nodes.pop(0)
            self.where = str(self.node)
            async with asyncio.timeout(self.seconds):
                found = await addresses_of(self.node.host, self.node.port)
            if not found:
                raise OSError(f"{self.node.host} has no address")
            self._places = _in_turn([Place(self.node, each) for each in found], self._lost)
        self.seconds, place = self.share, self._places.pop(0)
        self.where = str(place)
        return place


def _in_turn(places: list[Place], lost: Place | None) -> list[Place]:
    ipv6_first = bool(places) and ":" in places[0].address
    mixed = _shuffled(places, lambda place: place == lost)
    return sorted(mixed, key=lambda place: (place == lost, (":" in place.address) != ipv6_first))


def _shuffled(items: Sequence[T], last: Callable[[T], bool]) -> list[T]:
    """In random order, but for those that come last."""
    mixed = random.sample(items, len(items))
    return sorted(mixed, key=last)


async def addresses_of(host: str, port: int) -> list[str]:
    """The addresses of a host, as text, in the order in which the machine prefers them.

    Raises:
        OSError: the name has no address, or no name server answers.
    """
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        pass  # a name
    ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    found = await in_own_thread(ask, f"amqpjobs resolving {host}")
    return list(dict.fromkeys(_text(address) for *_, address in found))


async def connect(
    make: Callable[[], P], place: Place, context: ssl.SSLContext | None, **options: Any
) -> tuple[asyncio.Transport, P]:
    """Connect to that address. With TLS the certificate is checked for the name of the node.

    Args:
        make: makes the protocol.
        place: where.
        context: for TLS; None for none.
        options: more of the event loop's `create_connection`.

    Raises:
        OSError: it does not answer.
    """
    if context is not None and options.get("server_hostname") is None:
        options["server_hostname"] = place.node.host
    loop = asyncio.get_running_loop()
    return await loop.create_connection(
        make, place.address, place.node.port, ssl=context, **options
    )


def _text(address: tuple[Any, ...]) -> str:
    """The address of a socket's, with its scope if it is a link's."""
    scope = address[3] if len(address) == 4 else 0
    return f"{address[0]}%{scope}" if scope and "%" not in str(address[0]) else str(address[0])
