"""AMQP frames said and heard one by one: what no well-behaved client would say can be said."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from pamqp import body, commands, frame, header

GREETING = b"AMQP\0\0\x09\x01"
PATIENCE = 10.0  # seconds
ALL = {"authentication_failure_close": True, "connection.blocked": True}

T = TypeVar("T")


class HungUpError(Exception):
    """The broker closed the socket."""


class RawClient:
    """One TCP connection to a broker."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    def say(self, *frames: Any, channel: int = 1) -> None:
        """Send frames in one piece."""
        self.write(b"".join(frame.marshal(each, channel) for each in frames))

    async def hear_frame(self) -> tuple[int, Any]:
        """The next frame and its channel."""
        async with asyncio.timeout(PATIENCE):
            try:
                start = await self.reader.readexactly(7)
                rest = await self.reader.readexactly(int.from_bytes(start[3:], "big") + 1)
            except (asyncio.IncompleteReadError, ConnectionError):
                raise HungUpError from None
        _, channel, found = frame.unmarshal(start + rest)
        return channel, found

    async def hear(self, kind: type[T]) -> T:
        """The next frame, which has to be of that kind."""
        _, found = await self.hear_frame()
        assert isinstance(found, kind), f"{found.name}: {dict(found)}"
        return found

    async def ask(self, question: Any, kind: type[T], channel: int = 1) -> T:
        """Send a method, and wait for its answer."""
        self.say(question, channel=channel)
        return await self.hear(kind)

    async def refused(self, kind: type[Any] = commands.Connection.Close) -> tuple[int, str]:
        """The next frame closes the channel or the connection: its code and its text."""
        close = await self.hear(kind)
        return close.reply_code, close.reply_text

    async def delivered(self) -> commands.Basic.Deliver:
        """The next delivery, past its content."""
        delivery = await self.hear(commands.Basic.Deliver)
        missing = (await self.hear(header.ContentHeader)).body_size
        while missing:
            missing -= len((await self.hear(body.ContentBody)).value)
        return delivery

    async def hung_up(self) -> None:
        """Wait until the broker has closed the socket, whatever it says before."""
        try:
            while True:
                await self.hear_frame()
        except HungUpError:
            return

    async def log_in(self, url: str, *, heartbeat: int = 0, frame_max: int = 131072) -> None:
        """The handshake."""
        parts = urlsplit(url)
        self.write(GREETING)
        await self.hear(commands.Connection.Start)
        login = f"\0{unquote(parts.username or '')}\0{unquote(parts.password or '')}"
        start = commands.Connection.StartOk({"capabilities": ALL}, "PLAIN", login, "en_US")
        await self.ask(start, commands.Connection.Tune, 0)
        self.say(commands.Connection.TuneOk(2047, frame_max, heartbeat), channel=0)
        await self.ask(commands.Connection.Open("/"), commands.Connection.OpenOk, 0)

    async def open_channel(self, channel: int = 1) -> None:
        await self.ask(commands.Channel.Open(), commands.Channel.OpenOk, channel)

    async def declare(self, queue: str, **options: Any) -> None:
        declare = commands.Queue.Declare(queue=queue, exclusive=True, **options)
        await self.ask(declare, commands.Queue.DeclareOk)

    async def ready(self, queue: str) -> int:
        """How many messages are ready."""
        declare = commands.Queue.Declare(queue=queue, passive=True)
        return int((await self.ask(declare, commands.Queue.DeclareOk)).message_count)


def message(queue: str, text: bytes, *, mandatory: bool = False, **properties: Any) -> list[Any]:
    """The frames of a publish to a queue."""
    frames: list[Any] = [
        commands.Basic.Publish(routing_key=queue, mandatory=mandatory),
        header.ContentHeader(
            body_size=len(text), properties=commands.Basic.Properties(**properties)
        ),
    ]
    return [*frames, body.ContentBody(text)] if text else frames


@asynccontextmanager
async def bare_connection(port: int) -> AsyncIterator[RawClient]:
    """A socket to a broker on which nothing has been said."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield RawClient(reader, writer)
    finally:
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()


@asynccontextmanager
async def raw_client(url: str, **options: int) -> AsyncIterator[RawClient]:
    """A client with channel 1 open."""
    async with bare_connection(urlsplit(url).port or 0) as client:
        await client.log_in(url, **options)
        await client.open_channel()
        yield client
