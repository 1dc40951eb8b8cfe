"""What the embedded broker does not do: RabbitMQ does, and it refuses instead of ignoring."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from tests.conformance.client import Channel
from tests.conformance.events import ClosedError
from tests.conformance.peers import Peer


@contextmanager
def only_real(peer: Peer, code: int, scope: str) -> Iterator[None]:
    """RabbitMQ does what is within; the embedded broker refuses with that code."""
    if peer.server:
        yield
        return
    with pytest.raises(ClosedError) as refused:
        yield
    assert (refused.value.scope, refused.value.code) == (scope, code)


@pytest.mark.not_done("540")
def test_streams(peer: Peer, channel: Channel) -> None:
    """Queues of the type stream"""
    with only_real(peer, 540, "connection"):
        channel.of_kind("stream", "q")


@pytest.mark.not_done("540", "4.3")
@pytest.mark.parametrize("name", ["x-local-random", "x-modulus-hash"])
def test_exchange_types(peer: Peer, name: str) -> None:
    """Exchanges of the types `x-local-random` and `x-modulus-hash`, which 3.10 does not have"""
    channel = peer.channel()
    if peer.version == "3.10":
        text = f"COMMAND_INVALID - unknown exchange type '{name}'"
        with channel.refuses(503, text, "connection"):
            channel.exchange("x", name)
        return
    with only_real(peer, 540, "connection"):
        channel.exchange("x", name)


def test_immediate(channel: Channel) -> None:
    """`immediate` is a connection error 540"""
    with channel.refuses(540, "NOT_IMPLEMENTED - immediate=true", "connection"):
        channel.send(
            Basic.Publish(immediate=True),
            ContentHeader(body_size=0, properties=Basic.Properties()),
        )
