"""Decides whether a connection is read. Changes when there is another reason to stop reading."""

import asyncio
from collections.abc import Callable

from amqpjobs.broker.embedded.server.heartbeats import Heartbeats
from amqpjobs.broker.embedded.server.methods import encode


class Reading:
    """The tap on a connection's input: read while nobody holds it."""

    def __init__(self, transport: asyncio.Transport, heartbeats: Heartbeats) -> None:
        self._transport = transport
        self._heartbeats = heartbeats
        self._holders: set[str] = set()

    def __repr__(self) -> str:
        return f"<Reading held by {sorted(self._holders)}>"

    def hold(self, holder: str) -> None:
        """Read no more until that holder lets go."""
        if not self._holders and not self._transport.is_closing():
            self._transport.pause_reading()
            self._heartbeats.pause(True)
        self._holders.add(holder)

    def drain(self) -> None:
        """Read on, whoever holds: the connection is over, and what still comes is dropped."""
        for holder in tuple(self._holders):
            self.release(holder)

    def release(self, holder: str) -> None:
        """Read again, unless another one holds."""
        if holder not in self._holders:
            return
        self._holders.remove(holder)
        if not self._holders and not self._transport.is_closing():
            self._heartbeats.pause(False)
            self._transport.resume_reading()


class Alarm:
    """A resource alarm, as one connection sees it.

    RabbitMQ lets a connection be until it publishes: then it reads no more from it, and says so
    (rabbit_reader.erl, `publish_received`).

    Attributes:
        reason: what it runs low on; None when there is no alarm.
        stalled: whether the connection has published since, and is held up.
    """

    def __init__(
        self, reading: Reading, say: Callable[[bytes], None], resume: Callable[[], None]
    ) -> None:
        self.reason: str | None = None
        self.stalled = False
        self._reading = reading
        self._say = say
        self._resume = resume

    def set(self, reason: str) -> None:
        """Stop the connection when it next publishes."""
        self.reason = reason

    def published(self) -> None:
        """It has published: stop it."""
        if self.reason is not None and not self.stalled:
            self.stalled = True
            self._reading.hold("alarm")
            self._say(encode(0, "connection.blocked", reason=self.reason))

    def forget(self) -> bool:
        """The connection is over, and publishes no more; whether it was held up."""
        was_stalled, self.stalled, self.reason = self.stalled, False, None
        return was_stalled

    def clear(self) -> None:
        """The alarm is over: go on where it was stopped."""
        self.reason = None
        if self.stalled:
            self.stalled = False
            self._say(encode(0, "connection.unblocked"))
            self._resume()
            self._reading.release("alarm")
