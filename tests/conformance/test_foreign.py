"""Other people's clients on the embedded broker: pika, py-amqp, kombu, and amqplib of Node.js."""

import asyncio
import json
import socket
from contextlib import closing
from typing import Any

import amqp
import kombu
import pika
import pytest

from tests.conformance.peers import Peer
from tests.support.foreign import run_node

BODIES = [b"one", b"two"]
QUORUM = {"x-queue-type": "quorum", "x-delivery-limit": 10}


def url(peer: Peer) -> str:
    return f"amqp://guest:guest@{peer.address.host}:{peer.address.port}/%2F"


def test_pika(embedded: Peer) -> None:
    """pika: declare, publish with confirms, returns, consume, nack, ack, get, errors, close."""
    with closing(pika.BlockingConnection(pika.URLParameters(url(embedded)))) as connection:
        _use_pika(connection.channel())


def _use_pika(channel: Any) -> None:
    channel.confirm_delivery()
    channel.basic_qos(prefetch_count=1)
    channel.exchange_declare("x", "topic", durable=True)
    channel.queue_declare("q", durable=True, arguments=QUORUM)
    channel.queue_bind("q", "x", "a.*")
    properties = pika.BasicProperties(delivery_mode=2, headers={"n": 1, "list": ["ü"]})
    for body in BODIES:
        channel.basic_publish("x", "a.b", body, properties, mandatory=True)
    with pytest.raises(pika.exceptions.UnroutableError):
        channel.basic_publish("", "nowhere", b"", mandatory=True)
    seen = []
    for method, got, body in channel.consume("q", inactivity_timeout=10):
        assert method is not None, "nothing came"
        seen.append((method.redelivered, body, got.headers["n"], got.headers["list"]))
        if len(seen) == 1:
            channel.basic_nack(method.delivery_tag, requeue=True)
        else:
            channel.basic_ack(method.delivery_tag)
            break
    assert seen == [(again, b"one", 1, ["ü"]) for again in (False, True)]
    channel.cancel()
    method, _, body = channel.basic_get("q")
    assert (body, method.message_count) == (b"two", 0)
    channel.basic_ack(method.delivery_tag)
    assert channel.basic_get("q") == (None, None, None)
    with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="NOT_FOUND"):
        channel.queue_declare("nowhere", passive=True)


def test_py_amqp(embedded: Peer) -> None:
    """py-amqp: the same."""
    where = f"{embedded.address.host}:{embedded.address.port}"
    with amqp.Connection(where, confirm_publish=True, connect_timeout=10) as connection:
        channel = connection.channel()
        channel.basic_qos(0, 1, False)
        channel.exchange_declare("x", "topic", durable=True, auto_delete=False)
        channel.queue_declare("q", durable=True, auto_delete=False, arguments=QUORUM)
        channel.queue_bind("q", "x", "a.*")
        for body in BODIES:
            channel.basic_publish_confirm(
                amqp.Message(body, delivery_mode=2, application_headers={"n": 1}),
                exchange="x",
                routing_key="a.b",
                timeout=10,
            )
        seen: list[tuple[bool, bytes]] = []

        def arrived(message: Any) -> None:
            seen.append((message.delivery_info["redelivered"], message.body))
            if len(seen) == 1:
                channel.basic_reject(message.delivery_tag, requeue=True)
            else:
                channel.basic_ack(message.delivery_tag)

        channel.basic_consume("q", callback=arrived)
        while len(seen) < 3:
            connection.drain_events(timeout=10)
        assert seen == [(False, b"one"), (True, b"one"), (False, b"two")]
        assert channel.basic_get("q") is None
        with pytest.raises(amqp.exceptions.NotFound):
            channel.queue_declare("nowhere", passive=True)


def test_kombu(embedded: Peer) -> None:
    """kombu, as Celery uses it: declared entities, a producer with confirms, a consumer."""
    with kombu.Connection(
        url(embedded), transport_options={"confirm_publish": True}, connect_timeout=10
    ) as connection:
        exchange = kombu.Exchange("x", "topic", durable=True)
        queue = kombu.Queue("q", exchange, "a.*", queue_arguments=QUORUM)
        producer = connection.Producer(serializer="json")
        for n in range(3):
            producer.publish(
                {"n": n}, exchange=exchange, routing_key="a.b", declare=[queue], retry=True
            )
        seen: list[dict[str, int]] = []

        def arrived(body: dict[str, int], message: Any) -> None:
            seen.append(body)
            message.ack()

        with connection.Consumer(queue, callbacks=[arrived], prefetch_count=1):
            while len(seen) < 3:
                connection.drain_events(timeout=10)
        assert seen == [{"n": 0}, {"n": 1}, {"n": 2}]
        with pytest.raises(socket.timeout):
            connection.drain_events(timeout=0.01)


def test_amqplib(embedded: Peer) -> None:
    """amqplib of Node.js: the same as pika."""
    seen = json.loads(asyncio.run(run_node("exercise.js", url(embedded))))
    headers = {"n": 1, "list": ["ü"]}
    assert seen == {
        "declared": {"queue": "q", "messageCount": 0, "consumerCount": 0},
        "returned": "NO_ROUTE",
        "first": ["one", "a.b", headers],
        "again": ["one", True],
        "second": ["two", 0],
        "empty": False,
        "error": [404, True],
        "deleted": {"messageCount": 0},
    }


def test_amqplib_is_called_back_when_it_closes(embedded: Peer) -> None:
    """`connection.close(callback)`: the socket must not be reset behind `connection.close-ok`."""
    seen = json.loads(asyncio.run(run_node("close.js", url(embedded), "20")))
    assert seen == {"closed": 20, "errors": []}
