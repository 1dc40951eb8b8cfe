"""Notices: all of them leave while there is a connection."""

import asyncio
from typing import Any

from amqpjobs.broker.rabbitmq.unconfirmed_publication import Notice, Notices
from amqpjobs.jobs.message.properties import Properties


class Slow:
    """A link, its wire and its channels, which take their time to close."""

    number = 7
    frame_max = 131_072
    is_closed = False

    def __init__(self) -> None:
        self.wire = self.protocol = self
        self.closing, self.go = asyncio.Event(), asyncio.Event()
        self.written: list[bytes] = []

    async def channel(self) -> "Slow":
        return self

    def write(self, frames: bytes) -> None:
        self.written.append(frames)

    def flush(self) -> None: ...

    async def close(self) -> None:
        self.closing.set()
        await self.go.wait()


async def test_what_comes_while_a_channel_is_closed_leaves_too() -> None:
    """It was thrown away: of two requests that were cancelled one after the other, the second one
    went on in its worker."""
    link: Any = Slow()
    notices = Notices(link)
    notices.send(Notice("x", "one", Properties(), b""))
    await link.closing.wait()
    notices.send(Notice("x", "two", Properties(), b""))
    link.go.set()
    await notices.close()
    assert [b"one" in link.written[0], b"two" in link.written[1]] == [True, True]
