"""What each fault does, one class per fault. A new fault is a new class here.

Changes when a fault is added, or does something else.
"""

import asyncio
from collections.abc import Callable
from typing import Literal

from amqpjobs.broker.amqp.frames import OVERHEAD
from amqpjobs.broker.embedded.clock import Clock
from amqpjobs.broker.embedded.server.connection import Connection

Direction = Literal["received", "sent"]

_STEP = 0.02  # seconds between two portions of a slow read


class Effect:
    """A fault that is in effect; this one does nothing.

    Attributes:
        spent: whether it has done all that it was for.

    Args:
        name: part of the name that a client gives its connection. The fault is for those
            connections alone; "" is for all.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.spent = False

    def begin(self, connection: Connection) -> None:
        """A connection that is meant is there, or has just come."""

    def end(self, connection: Connection) -> None:
        """The fault is over, and the connection still there."""

    def keeps_confirm(self, tell: Callable[[int], None], tag: int) -> bool:
        """Whether that confirm is not to be sent now; `tell` sends it later."""
        return False

    def refuses_publish(self) -> bool:
        """Whether the next publish is to be refused."""
        return False

    def refuses_connection(self) -> bool:
        """Whether the next connection is to be refused."""
        return False


class Limited(Effect):
    """An effect on so many, or on all until it ends."""

    def __init__(self, count: int | None, name: str = "") -> None:
        super().__init__(name)
        self._left = count

    def use(self) -> bool:
        """Whether it still has an effect; this use of it is counted."""
        if self._left is None:
            return True
        self._left -= 1
        self.spent = self._left <= 0
        return self._left >= 0


class DropConfirms(Limited):
    """The broker takes a message and never says so."""

    def keeps_confirm(self, tell: Callable[[int], None], tag: int) -> bool:
        """All, or the first few."""
        return self.use()


class RefusePublishes(Limited):
    """The broker takes no message, and says so with `basic.nack`."""

    def refuses_publish(self) -> bool:
        """All, or the first few."""
        return self.use()


class DelayConfirms(Effect):
    """Confirms come late. What waits when the fault ends still comes at its time."""

    def __init__(self, seconds: float, clock: Clock) -> None:
        super().__init__()
        self._seconds = seconds
        self._clock = clock

    def keeps_confirm(self, tell: Callable[[int], None], tag: int) -> bool:
        """Each is told later."""
        self._clock.call_at(self._clock.time() + self._seconds, lambda: tell(tag))
        return True


class RefuseConnections(Effect):
    """Every new connection is reset before a byte is said."""

    def refuses_connection(self) -> bool:
        """All."""
        return True


class Block(Effect):
    """A resource alarm: who publishes is told, and read no further."""

    def __init__(self, reason: str) -> None:
        super().__init__()
        self._reason = reason

    def begin(self, connection: Connection) -> None:
        """It is blocked when it next publishes."""
        connection.alarm.set(self._reason)

    def end(self, connection: Connection) -> None:
        """It is read again."""
        connection.alarm.clear()


class BlackHole(Effect):
    """Connections stay open, bytes are taken, and nothing comes back: a dead peer.

    A connection that has been in it cannot go on, for bytes are missing: it is cut at the end.
    Until then the broker takes its client for alive, and its unacknowledged messages stay out.
    """

    def begin(self, connection: Connection) -> None:
        """Swallow what comes and what goes."""
        connection.intake = _swallow
        connection.out.trim = lambda _: b""
        connection.heartbeats.stop()
        connection.wait_for_ever()

    def end(self, connection: Connection) -> None:
        """Cut it."""
        connection.abort()


class SlowReads(Effect):
    """The broker reads slowly: what a client sends is taken a little at a time."""

    def __init__(self, bytes_per_second: float, name: str) -> None:
        super().__init__(name)
        self._portion = max(1, round(bytes_per_second * _STEP))
        self._readers: dict[Connection, _SlowReader] = {}

    def begin(self, connection: Connection) -> None:
        """Put a slow reader in between."""
        reader = self._readers[connection] = _SlowReader(connection, self._portion)
        connection.intake = reader.take

    def end(self, connection: Connection) -> None:
        """Read as ever; what waits is read first."""
        connection.intake = connection.parse
        self._readers.pop(connection).finish()


class Cut(Effect):
    """The connection that carries the nth frame from now on is cut behind it.

    Args:
        after_frames: frames, counted over all connections that are meant.
        direction: whether those that the broker receives count, or those that it sends.
        name: as for `Effect`.
    """

    def __init__(self, after_frames: int, direction: Direction, name: str) -> None:
        super().__init__(name)
        self._left = after_frames
        self._direction = direction

    def begin(self, connection: Connection) -> None:
        """Count its frames."""
        if self._direction == "received":
            connection.received_frame = lambda: self._received(connection)
        else:
            connection.out.trim = lambda frames: self._trim(connection, frames)

    def end(self, connection: Connection) -> None:
        """Count no longer."""
        connection.received_frame = connection.out.trim = None

    def _received(self, connection: Connection) -> None:
        self._left -= 1
        if self._left == 0:
            self.spent = True
            connection.abort()

    def _trim(self, connection: Connection, frames: bytes) -> bytes:
        at = 0
        while at < len(frames) and self._left > 0:
            at += int.from_bytes(frames[at + 3 : at + 7], "big") + OVERHEAD
            self._left -= 1
        if self._left == 0 and not self.spent:
            self.spent = True
            asyncio.get_running_loop().call_soon(connection.hang_up)  # behind this write
            return frames[:at]
        return frames


class _SlowReader:
    """Holds what a client has sent, and passes it on in portions."""

    def __init__(self, connection: Connection, portion: int) -> None:
        self._connection = connection
        self._portion = portion
        self._held = bytearray()
        self._loop = asyncio.get_running_loop()

    def take(self, data: bytes) -> None:
        """Called with what was read; no more is read until it has been passed on."""
        self._connection.reading.hold("slow")
        if not self._held:
            self._loop.call_later(_STEP, self._pass_on)
        self._held += data

    def finish(self) -> None:
        """Pass on all that is left."""
        self._portion = len(self._held) or 1
        self._pass_on()

    def _pass_on(self) -> None:
        portion = bytes(self._held[: self._portion])
        del self._held[: self._portion]
        if portion:
            self._connection.parse(portion)
        if self._held:
            self._loop.call_later(_STEP, self._pass_on)
        else:
            self._connection.reading.release("slow")


def _swallow(data: bytes) -> None:
    """Take bytes, and do nothing with them."""
