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


def test_immediate(channel: Channel) -> None:
    """`immediate` is a connection error 540"""
    with channel.refuses(540, "NOT_IMPLEMENTED - immediate=true", "connection"):
        channel.send(
            Basic.Publish(immediate=True),
            ContentHeader(body_size=0, properties=Basic.Properties()),
        )
