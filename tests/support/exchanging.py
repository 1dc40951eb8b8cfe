"""Other programs at an exchange: FastStream, Node.js with amqplib, pika and kombu.

Each publishes an event with the properties that it writes by itself, and hears events in its own
way. What was heard is one kind of value for all of them.
"""

import asyncio
import datetime as dt
import json
import subprocess
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import kombu
import pika
from faststream.rabbit import ExchangeType, RabbitBroker, RabbitExchange, RabbitMessage, RabbitQueue

from tests.support.foreign import node_command, pika_channel, run_node
from tests.support.waiting import until


@dataclass(frozen=True, slots=True)
class Heard:
    """An event as another program got it."""

    key: str
    body: Any
    content_type: str | None
    message_id: str | None
    type: str | None
    app_id: str | None
    timestamp: int | None
    delivery_mode: int | None
    headers: Mapping[str, Any]


class Peer(Protocol):
    """Another program."""

    async def publish(self, url: str, exchange: str, key: str, value: object) -> None:
        """Publish one event to a topic exchange that is there."""
        ...

    def listening(
        self, url: str, exchange: str, key: str, type_: str = "topic"
    ) -> AbstractAsyncContextManager[list[Heard]]:
        """What it hears, inside of the block, over a queue of its own."""
        ...


class FastStream:
    """A correlation id, a message id, and the content type of what it has encoded."""

    async def publish(self, url: str, exchange: str, key: str, value: object) -> None:
        async with RabbitBroker(url) as broker:
            place = RabbitExchange(exchange, type=ExchangeType.TOPIC, durable=True, declare=False)
            await broker.publish(value, routing_key=key, exchange=place)

    @asynccontextmanager
    async def listening(
        self, url: str, exchange: str, key: str, type_: str = "topic"
    ) -> AsyncIterator[list[Heard]]:
        heard: list[Heard] = []
        broker = RabbitBroker(url)
        queue = RabbitQueue(f"faststream.{exchange}", routing_key=key, auto_delete=True)
        place = RabbitExchange(exchange, type=ExchangeType(type_), durable=True)

        @broker.subscriber(queue, place)
        async def handle(body: Any, message: RabbitMessage) -> None:
            raw = message.raw_message
            heard.append(
                Heard(
                    raw.routing_key or "", body, raw.content_type, raw.message_id, raw.type,
                    raw.app_id, _seconds(raw.timestamp), raw.delivery_mode, raw.headers,
                )
            )  # fmt: skip

        async with broker:
            await broker.start()
            yield heard


class Node:
    """amqplib says nothing by itself: no content type, no id, no delivery mode."""

    async def publish(self, url: str, exchange: str, key: str, value: object) -> None:
        await run_node("publish.js", url, exchange, key, json.dumps(value))

    @asynccontextmanager
    async def listening(
        self, url: str, exchange: str, key: str, type_: str = "topic"
    ) -> AsyncIterator[list[Heard]]:
        heard: list[Heard] = []
        command, environment = await asyncio.to_thread(
            node_command, "listen.js", url, exchange, type_, key
        )
        process = await asyncio.create_subprocess_exec(
            *command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdin is not None
        assert process.stdout is not None
        output = process.stdout

        async def read() -> None:
            bare = dict.fromkeys(Heard.__slots__)
            async for line in output:
                heard.append(Heard(**(bare | json.loads(line))))  # noqa: PERF401 - read as it grows

        try:
            async with asyncio.timeout(60):
                assert await output.readline() == b"ready\n"
            reading = asyncio.create_task(read())
            yield heard
            process.stdin.close()
            async with asyncio.timeout(60):
                assert await process.wait() == 0
            await reading
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


class Pika:
    """Numbers in headers, a timestamp, and no content type."""

    async def publish(
        self, url: str, exchange: str, key: str, value: object, **properties: Any
    ) -> None:
        given = {"headers": {"version": 2, "big": 2**40}, "timestamp": 1_700_000_000, **properties}
        await self.send(url, exchange, key, json.dumps(value).encode(), **given)

    async def send(self, url: str, exchange: str, key: str, body: bytes, **properties: Any) -> None:
        """Publish these bytes with these properties and no other."""
        await asyncio.to_thread(self._send, url, exchange, key, body, properties)

    def _send(
        self, url: str, exchange: str, key: str, body: bytes, properties: dict[str, Any]
    ) -> None:
        with pika_channel(url) as (_, channel):
            channel.confirm_delivery()
            channel.basic_publish(exchange, key, body, pika.BasicProperties(**properties))

    @asynccontextmanager
    async def listening(
        self,
        url: str,
        exchange: str,
        key: str,
        type_: str = "topic",
        arguments: dict[str, Any] | None = None,
    ) -> AsyncIterator[list[Heard]]:
        heard: list[Heard] = []
        ready, over = threading.Event(), threading.Event()

        def listen() -> None:
            with pika_channel(url) as (connection, channel):
                channel.exchange_declare(exchange, type_, durable=True)
                queue = channel.queue_declare("", exclusive=True).method.queue
                channel.queue_bind(queue, exchange, key, arguments)
                channel.basic_consume(queue, hear, auto_ack=True)
                ready.set()
                while not over.is_set():
                    connection.process_data_events(0.05)

        def hear(_channel: Any, method: Any, p: Any, body: bytes) -> None:
            heard.append(
                Heard(
                    method.routing_key, json.loads(body), p.content_type, p.message_id, p.type,
                    p.app_id, p.timestamp, p.delivery_mode, p.headers or {},
                )
            )  # fmt: skip

        listening = asyncio.create_task(asyncio.to_thread(listen))
        try:
            await until(lambda: ready.is_set() or listening.done(), "pika listens")
            yield heard
        finally:
            over.set()
            await listening


class Kombu:
    """A content encoding, `utf-8`, and a priority."""

    async def publish(self, url: str, exchange: str, key: str, value: object) -> None:
        await asyncio.to_thread(self._publish, url, exchange, key, value)

    def _publish(self, url: str, exchange: str, key: str, value: object) -> None:
        with kombu.Connection(url) as connection:
            place = kombu.Exchange(exchange, type="topic", passive=True)
            connection.Producer(serializer="json").publish(value, routing_key=key, exchange=place)

    @asynccontextmanager
    async def listening(
        self, url: str, exchange: str, key: str, type_: str = "topic"
    ) -> AsyncIterator[list[Heard]]:
        heard: list[Heard] = []
        ready, over = threading.Event(), threading.Event()

        def hear(body: Any, message: Any) -> None:
            p = message.properties
            heard.append(
                Heard(
                    message.delivery_info["routing_key"], body, message.content_type,
                    p.get("message_id"), p.get("type"), p.get("app_id"),
                    _seconds(p.get("timestamp")), p.get("delivery_mode"), message.headers,
                )
            )  # fmt: skip
            message.ack()

        def listen() -> None:
            place = kombu.Exchange(exchange, type=type_, durable=True)
            queue = kombu.Queue(f"kombu.{exchange}", place, routing_key=key, exclusive=True)
            with kombu.Connection(url) as connection, connection.Consumer(queue, callbacks=[hear]):
                ready.set()
                while not over.is_set():
                    try:
                        connection.drain_events(timeout=0.05)
                    except TimeoutError:
                        continue

        listening = asyncio.create_task(asyncio.to_thread(listen))
        try:
            await until(lambda: ready.is_set() or listening.done(), "kombu listens")
            yield heard
        finally:
            over.set()
            await listening


def _seconds(time: dt.datetime | int | None) -> int | None:
    return int(time.timestamp()) if isinstance(time, dt.datetime) else time


PEERS: Mapping[str, Peer] = {
    "faststream": FastStream(), "node": Node(), "pika": Pika(), "kombu": Kombu()
}  # fmt: skip
