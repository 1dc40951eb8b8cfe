"""A client that hides nothing: every frame that arrives is seen, in its order.

It blocks, so that a test reads from top to bottom. "Nothing comes" is never shown by waiting: ask
the broker something else, and look at what came before its answer (`Channel.arrived`).
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, cast

from pamqp import body, header
from pamqp.base import Frame as Method
from pamqp.commands import Basic, Confirm, Connection, Exchange, Queue
from pamqp.commands import Channel as ChannelMethods
from pamqp.heartbeat import Heartbeat

from tests.conformance.events import (
    ClosedError,
    Confirmed,
    Delivered,
    Event,
    closed,
    message,
    told,
)
from tests.conformance.wire import PATIENCE, Frame, HungUpError, Wire

CAPABILITIES: Final = {
    "authentication_failure_close": True,
    "basic.nack": True,
    "connection.blocked": True,
    "consumer_cancel_notify": True,
    "exchange_exchange_bindings": True,
    "publisher_confirms": True,
}


@dataclass(frozen=True, slots=True)
class Address:
    """Where a broker is, and who logs in to what."""

    host: str
    port: int
    vhost: str = "/"
    user: str = "guest"
    password: str = "guest"


class Channel:
    """One channel: calls wait for their answer, events wait until a test asks for them."""

    def __init__(self, connection: "Client", number: int) -> None:
        self.connection = connection
        self.number = number
        self.closed: ClosedError | None = None
        self._events: deque[Event] = deque()
        self._replies: deque[Any] = deque()
        self._content: tuple[Method, header.ContentHeader, bytearray] | None = None
        self._method: Method | None = None

    # What arrives

    def take(self, arrived: Frame) -> None:
        """A frame has arrived for this channel."""
        if isinstance(arrived, header.ContentHeader):
            assert self._method is not None
            self._content = (self._method, arrived, bytearray())
        elif isinstance(arrived, body.ContentBody):
            assert self._content is not None
            self._content[2].extend(arrived.value)
        elif isinstance(arrived, Basic.Deliver | Basic.Return | Basic.GetOk):
            self._method = arrived
        elif event := told(arrived):
            self._events.append(event)
        elif isinstance(arrived, ChannelMethods.Close):
            self.closed = closed("channel", arrived)
            self.connection.forget(self.number)
            self.connection.wire.send(self.number, ChannelMethods.CloseOk())
        else:
            self._replies.append(arrived)
        if self._content and len(self._content[2]) == self._content[1].body_size:
            self._complete(*self._content)

    def _complete(self, method: Method, content: header.ContentHeader, read: bytearray) -> None:
        self._content = self._method = None
        made = message(method, content.properties, bytes(read))
        if isinstance(method, Basic.GetOk):
            self._replies.append(made)
        else:
            self._events.append(made)

    def _wait(self, ready: Callable[[], object], patience: float = PATIENCE) -> None:
        while not ready():
            if self.closed:
                raise self.closed
            self.connection.pump(patience)

    def next(self, patience: float = PATIENCE) -> Any:
        """Wait for the next event: a `Delivered`, `Returned`, `Confirmed` or `Cancelled`.

        Raises:
            ClosedError: the broker closes the channel or the connection instead.
            TimeoutError: nothing comes in time.
        """
        self._wait(lambda: self._events, patience)
        return self._events.popleft()

    def take_next(self, count: int) -> list[Any]:
        """Wait for so many events."""
        return [self.next() for _ in range(count)]

    def bodies(self, count: int) -> list[bytes]:
        """Wait for so many deliveries, and give their bodies."""
        return [event.body for event in self.take_next(count)]

    def arrived(self) -> list[Event]:
        """All events up to the answer to a question that is asked now."""
        self.round_trip()
        events = list(self._events)
        self._events.clear()
        return events

    def put_back(self, events: list[Event]) -> None:
        """Events that were taken and are for somebody else: they are the next again."""
        self._events.extendleft(reversed(events))

    def wait_closed(self) -> ClosedError:
        """Wait until the broker closes the channel or the connection; events before it stay."""
        with suppress(ClosedError):
            self._wait(lambda: False)
        assert self.closed is not None
        return self.closed

    # What is sent

    def send(self, *frames: Frame) -> None:
        """Send frames and wait for nothing."""
        self.connection.wire.send(self.number, *frames)

    def call(self, method: Method) -> Any:
        """Send a method and wait for its answer.

        Raises:
            ClosedError: the broker closed the channel or the connection instead.
        """
        if self.closed:
            raise self.closed
        self.send(method)
        self._wait(lambda: self._replies)
        return self._replies.popleft()

    def round_trip(self) -> None:
        """Wait until the broker has handled everything that was sent on this channel."""
        self.call(Exchange.Declare(exchange="amq.direct", passive=True))

    def close(self) -> None:
        """Close the channel in order."""
        self.call(ChannelMethods.Close(200, "", 0, 0))
        self.connection.forget(self.number)

    @contextmanager
    def refuses(self, code: int, text: str, scope: str = "channel") -> Iterator[None]:
        """What is done within must be answered by a close with that code and those words."""
        found: ClosedError | None = None
        try:
            yield
            self.round_trip()
        except ClosedError as error:
            found = error
        assert found is not None, f"nothing was refused; expected {scope}: {code} {text}"
        assert (found.scope, found.code, found.text) == (scope, code, text)

    def declare(self, queue: str = "", **options: Any) -> Queue.DeclareOk:
        """Declare a queue; its keyword arguments are those of ``queue.declare``."""
        declared = cast("Queue.DeclareOk", self.call(Queue.Declare(queue=queue, **options)))
        self.connection.declared.append(("queue", declared.queue))
        return declared

    def quorum(self, queue: str, **arguments: Any) -> Queue.DeclareOk:
        """Declare a quorum queue; in the names of its arguments ``_`` stands for ``-``."""
        return self.of_kind("quorum", queue, **arguments)

    def classic(self, queue: str, **arguments: Any) -> Queue.DeclareOk:
        """Declare a durable classic queue; the same for its arguments."""
        return self.of_kind("classic", queue, **arguments)

    def of_kind(self, kind: str, queue: str, **arguments: Any) -> Queue.DeclareOk:
        """Declare a durable queue of that type."""
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        return self.declare(queue, durable=True, arguments={"x-queue-type": kind, **named})

    def counts(self, queue: str) -> tuple[int, int]:
        """Messages ready and consumers, as ``queue.declare-ok`` says."""
        found = self.call(Queue.Declare(queue=queue, passive=True))
        return found.message_count, found.consumer_count

    def wait_ready(self, queue: str, ready: int) -> None:
        """Wait until so many messages are ready: what a settlement does is done a moment later."""
        deadline = time.monotonic() + PATIENCE
        while (found := self.counts(queue)[0]) != ready:
            assert time.monotonic() < deadline, f"{found} messages in {queue}, not {ready}"

    def wait_gone(self, queue: str) -> None:
        """Wait until there is no queue of that name any more."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            look = self.connection.channel()
            try:
                look.counts(queue)
                look.close()
            except ClosedError as error:
                if error.code == 404:
                    return
                # An exclusive one, whose connection the broker has not missed yet.
                assert error.code == 405, error
        raise AssertionError(f"{queue} is still there")

    def wait_get(self, queue: str, *, no_ack: bool = True) -> Delivered:
        """Wait for a message in a queue, and take it out."""
        deadline = time.monotonic() + PATIENCE
        while not (found := self.get(queue, no_ack=no_ack)):
            assert time.monotonic() < deadline, f"nothing in {queue}"
        return found

    def exchange(self, name: str, kind: str = "direct", **options: Any) -> None:
        """Declare an exchange; its keyword arguments are those of ``exchange.declare``."""
        self.connection.declared.append(("exchange", name))
        self.call(Exchange.Declare(exchange=name, exchange_type=kind, **options))

    def bind(self, queue: str, exchange: str, key: str = "", **arguments: Any) -> None:
        """Bind a queue to an exchange."""
        self.call(Queue.Bind(0, queue, exchange, key, arguments=arguments))

    def publish(
        self,
        key: str,
        content: bytes = b"",
        exchange: str = "",
        *,
        mandatory: bool = False,
        **properties: Any,
    ) -> None:
        """Publish one message; `properties` are AMQP's, `type` is ``message_type``."""
        said = Basic.Properties(**properties)
        frames: list[Frame] = [Basic.Publish(0, exchange, key, mandatory)]
        frames.append(header.ContentHeader(body_size=len(content), properties=said))
        limit = self.connection.frame_max - 8
        starts = range(0, len(content), limit)
        frames.extend(body.ContentBody(content[start : start + limit]) for start in starts)
        self.send(*frames)

    def publish_confirmed(self, key: str, *contents: bytes, **options: Any) -> None:
        """Publish and wait until all of it is confirmed: it is in its queues then."""
        side = self.connection.channel()
        side.call(Confirm.Select())
        for content in contents:
            side.publish(key, content, **options)
        confirmed = 0
        while confirmed < len(contents):
            event = side.next()
            assert isinstance(event, Confirmed), event
            assert not event.refused, event
            confirmed = event.tag if event.multiple else confirmed + 1
        side.close()

    def confirms(self) -> None:
        """Have publishes confirmed."""
        self.call(Confirm.Select())

    def qos(self, count: int, *, shared: bool = False) -> None:
        """How many may be unacked: for each consumer made from now on, or for the channel."""
        self.call(Basic.Qos(0, count, shared))

    def consume(self, queue: str, tag: str = "", **options: Any) -> str:
        """Consume; gives the consumer's tag."""
        answer = self.call(Basic.Consume(queue=queue, consumer_tag=tag, **options))
        return str(answer.consumer_tag)

    def cancel(self, tag: str) -> None:
        """Stop a consumer."""
        self.call(Basic.Cancel(tag))

    def get(self, queue: str, *, no_ack: bool = False) -> Delivered | None:
        """Take one message; None when there is none."""
        answer = self.call(Basic.Get(0, queue, no_ack))
        return answer if isinstance(answer, Delivered) else None

    def get_all(self, queue: str) -> list[bytes]:
        """Take out all that is ready, and give the bodies."""
        return [found.body for found in iter(lambda: self.get(queue, no_ack=True), None)]

    def ack(self, tag: int, *, multiple: bool = False) -> None:
        """Acknowledge."""
        self.send(Basic.Ack(tag, multiple))

    def nack(self, tag: int, *, multiple: bool = False, requeue: bool = True) -> None:
        """Give back, or with `requeue` False throw away."""
        self.send(Basic.Nack(tag, multiple, requeue))

    def reject(self, tag: int, *, requeue: bool = True) -> None:
        """Give back, or with `requeue` False throw away."""
        self.send(Basic.Reject(tag, requeue))

    def purge(self, queue: str) -> int:
        """Throw away all that is ready; says how many."""
        return int(self.call(Queue.Purge(queue=queue)).message_count)

    def delete(self, queue: str, **options: Any) -> int:
        """Delete a queue; says how many messages went with it."""
        return int(self.call(Queue.Delete(queue=queue, **options)).message_count)


class Client:
    """One connection, after its handshake."""

    def __init__(self, address: Address, **tune: int) -> None:
        self.wire = Wire(address.host, address.port)
        self.channels: dict[int, Channel] = {}
        self.declared: list[tuple[str, str]] = []
        """What to delete after the test: "queue" or "exchange", and a name."""
        self.blocked: list[str] = []
        """The reasons given by ``connection.blocked``; empty again when it is unblocked."""
        self._answers: deque[Method] = deque()
        try:
            self.started, self.offered = self._open(address, tune)
        except BaseException:
            self.wire.shut()
            raise

    def _open(self, address: Address, tune: dict[str, int]) -> tuple[Any, Any]:
        self.wire.write(b"AMQP\x00\x00\x09\x01")
        started = self.expect(Connection.Start)
        login = f"\0{address.user}\0{address.password}"
        properties = {"capabilities": CAPABILITIES}
        self.wire.send(0, Connection.StartOk(properties, "PLAIN", login, "en_US"))
        offered = self.expect(Connection.Tune)
        self.frame_max = tune.get("frame_max", offered.frame_max)
        channel_max = tune.get("channel_max", offered.channel_max)
        heartbeat = tune.get("heartbeat", 0)
        self.wire.send(0, Connection.TuneOk(channel_max, self.frame_max, heartbeat))
        self.wire.send(0, Connection.Open(address.vhost))
        self.expect(Connection.OpenOk)
        return started, offered

    def expect(self, kind: type[Method]) -> Any:
        """Wait for an answer on channel 0, which must be of that kind."""
        while not self._answers:
            self.pump()
        answer = self._answers.popleft()
        assert isinstance(answer, kind), answer
        return answer

    def pump(self, patience: float = PATIENCE) -> None:
        """Wait for one frame, and hand it to its channel."""
        number, arrived = self.wire.receive(patience)
        if isinstance(arrived, Heartbeat):
            return
        if number:
            self.channels[number].take(arrived)
        elif isinstance(arrived, Connection.Close):
            self.wire.send(0, Connection.CloseOk())
            reason = closed("connection", arrived)
            for channel in self.channels.values():
                channel.closed = reason
            raise reason
        elif isinstance(arrived, Connection.Blocked):
            self.blocked.append(arrived.reason)
        elif isinstance(arrived, Connection.Unblocked):
            self.blocked.clear()
        else:
            self._answers.append(cast("Method", arrived))

    def channel(self, number: int = 0) -> Channel:
        """Open a channel, by default the first that is free."""
        number = number or next(n for n in range(1, 65536) if n not in self.channels)
        made = self.channels[number] = Channel(self, number)
        made.call(ChannelMethods.Open())
        return made

    def forget(self, number: int) -> None:
        """That channel is closed: its number is free."""
        del self.channels[number]

    def close(self) -> None:
        """Close in order, if it is still open."""
        with suppress(OSError, HungUpError, ClosedError, TimeoutError):
            self.wire.send(0, Connection.Close(200, "", 0, 0))
            while not self._answers:
                self.pump(2.0)
        self.wire.shut()

    def drop(self) -> None:
        """Lose the connection."""
        self.wire.shut()
