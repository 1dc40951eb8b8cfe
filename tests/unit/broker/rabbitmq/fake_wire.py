"""A link to a broker that the test plays itself: the real splitter over a transport in memory.

What amqpjobs writes is read back as frames by pamqp, and what the broker says is fed in as bytes.
Only aiormq's channel objects, which are asked for little, are stood in for.
"""

import asyncio
import itertools
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pamqp.frame
from pamqp import commands
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from amqpjobs.broker.amqp.frames import decode_header, encode_publish
from amqpjobs.broker.rabbitmq.profile import Profile
from amqpjobs.broker.rabbitmq.splitter import SplitterProtocol
from amqpjobs.jobs.message.properties import Properties


async def turns(count: int = 20) -> None:
    """Let the event loop go round: all that is ready runs, and nothing waits for a clock."""
    for _ in range(count):
        await asyncio.sleep(0)


class Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self._closing = False

    def write(self, data: bytes) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True

    abort = close


class Channel:
    """What of an aiormq channel is used."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.consumers: dict[str, Any] = {}
        self.on_consumer_cancel_callbacks: set[Any] = set()
        self.calls: list[str] = []
        self.prefetch = 0
        self.arguments: Any = None

    @property
    def closing(self) -> "asyncio.Future[None]":
        """As aiormq's: each who asks gets a future of their own, which may be cancelled."""
        if self._closed.done():
            return self._closed
        own: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def close(closed: "asyncio.Future[None]") -> None:
            if own.done():
                return
            error = closed.exception()
            own.set_result(None) if error is None else own.set_exception(error)

        self._closed.add_done_callback(close)
        return own

    @property
    def is_closed(self) -> bool:
        return self._closed.done()

    def refuse(self, error: BaseException) -> None:
        """The broker closes the channel over an error."""
        self._closed.set_exception(error)

    async def basic_qos(self, prefetch_count: int) -> None:
        self.prefetch = prefetch_count

    async def basic_consume(self, queue: str, callback: Any, arguments: Any = None) -> Any:
        self.calls.append(f"consume {queue}")
        self.arguments = arguments
        tag = f"tag{len(self.calls)}"
        self.consumers[tag] = callback
        return SimpleNamespace(consumer_tag=tag)

    async def basic_cancel(self, tag: str) -> None:
        self.calls.append(f"cancel {tag}")
        del self.consumers[tag]

    async def close(self) -> None:
        self.calls.append("close")
        if not self.is_closed:
            self._closed.set_result(None)


@dataclass
class Published:
    """One message as it left on a channel; `number` is its delivery tag there."""

    channel: int
    number: int
    exchange: str
    routing_key: str
    properties: Properties
    body: bytes
    mandatory: bool


class Wire:
    """One life of the connection, and the broker at its other end."""

    def __init__(self, generation: int) -> None:
        loop = asyncio.get_running_loop()
        self.generation = generation
        self.lost = asyncio.Event()
        self.reason: str | None = None
        self.frame_max = 131072
        self.profile = Profile((4, 3, 6), "RabbitMQ")
        self.transport = Transport()
        self.protocol = SplitterProtocol(asyncio.StreamReader(loop=loop), loop)
        self.protocol.connection_made(self.transport)
        self.channels: list[Channel] = []
        self.refuse_channel: BaseException | None = None

    async def channel(self, *, confirms: bool = False) -> Channel:
        if self.refuse_channel is not None:
            raise self.refuse_channel
        self.channels.append(Channel(len(self.channels) + 1))
        return self.channels[-1]

    def lose(self) -> None:
        """The connection is gone."""
        self.reason = "gone"
        self.protocol.connection_lost(None)
        self.lost.set()

    # --- what amqpjobs wrote ---

    def frames(self) -> list[tuple[int, Any]]:
        """All frames so far: channel and what pamqp makes of it."""
        data, found = bytes(self.transport.written), []
        while data:
            used, channel, frame = pamqp.frame.unmarshal(data)
            found.append((channel, frame))
            data = data[used:]
        return found

    def settlements(self) -> list[Any]:
        """`basic.ack` and `basic.nack`, in order."""
        kinds = (commands.Basic.Ack, commands.Basic.Nack)
        return [frame for _, frame in self.frames() if isinstance(frame, kinds)]

    def published(self) -> list[Published]:
        """The messages, in order."""
        found: list[Published] = []
        counts: dict[int, itertools.count[int]] = {}
        for channel, frame in self.frames():
            match frame:
                case commands.Basic.Publish():
                    number = next(counts.setdefault(channel, itertools.count(1)))
                    found.append(
                        Published(
                            channel,
                            number,
                            frame.exchange,
                            frame.routing_key,
                            Properties(),
                            b"",
                            frame.mandatory,
                        )
                    )
                case ContentHeader():
                    payload = frame.marshal()
                    found[-1].properties = decode_header(payload)
                case ContentBody():
                    found[-1].body += frame.value
        return found

    # --- what the broker says ---

    def say(self, command: Any, channel: int = 1) -> None:
        self.protocol.data_received(pamqp.frame.marshal(command, channel))

    def confirm(self, tag: int, *, multiple: bool = False, acked: bool = True) -> None:
        kind = commands.Basic.Ack if acked else commands.Basic.Nack
        self.say(kind(delivery_tag=tag, multiple=multiple))

    def give_back(self, message: Published) -> None:
        """`basic.return`: mandatory, and no queue for it."""
        method = commands.Basic.Return(312, "NO_ROUTE", "", message.routing_key)
        self.protocol.data_received(
            pamqp.frame.marshal(method, message.channel)
            + content(message.channel, message.properties, message.body)
        )

    def deliver(
        self,
        tag: int,
        properties: Properties | None = None,
        body: bytes = b"{}",
        *,
        header: bytes | None = None,
        redelivered: bool = False,
        channel: int = 1,
    ) -> None:
        """`basic.deliver`; `header` is the payload of a header frame, for what no client sends."""
        method = commands.Basic.Deliver("tag1", tag, redelivered, "", "queue")
        message = content(channel, properties or Properties(), body)
        if header is not None:
            frame = b"\x02" + channel.to_bytes(2) + len(header).to_bytes(4) + header + b"\xce"
            old = 8 + int.from_bytes(message[3:7])
            message = frame + message[old:]
        self.protocol.data_received(pamqp.frame.marshal(method, channel) + message)


def content(channel: int, properties: Properties, body: bytes) -> bytes:
    """The header frame and the body frames of a message."""
    frames = encode_publish(channel, "", "queue", properties, body, 131072)
    return frames[8 + int.from_bytes(frames[3:7]) :]


class Link:
    """A link whose lives begin and end when the test says so."""

    def __init__(self) -> None:
        self.wire: Wire | None = None
        self.last_error: Exception | None = None
        self.generation = 0
        self._up = asyncio.Event()

    async def up(self) -> Wire:
        while self.wire is None:
            self._up.clear()
            await self._up.wait()
        return self.wire

    def connect(self) -> Wire:
        self.generation += 1
        self.wire = Wire(self.generation)
        self._up.set()
        return self.wire

    def lose(self) -> None:
        wire, self.wire = self.wire, None
        assert wire is not None
        wire.lose()
