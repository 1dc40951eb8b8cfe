"""A real broker and the embedded one, told the same and compared.

Deliveries of a real broker come when they come: after each command both are asked how many
messages each queue has until both say the same, and only then is what has arrived compared.
"""

import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from pamqp.commands import Basic, Exchange, Queue

from tests.conformance.client import Channel, Client
from tests.conformance.events import Cancelled, ClosedError, Confirmed, Delivered, Event, Returned
from tests.conformance.peers import Peer

CHANNELS: Final = 3
PUBLISHER: Final = 0
"""The channel that has its publishes confirmed."""

AGREEMENT: Final = 5.0
"""Seconds after which two brokers that still differ do differ."""

Message: TypeAlias = tuple[str, bytes]
"""Its queue and its body, of which there is one in each queue."""


class DifferenceError(AssertionError):
    """The two brokers do not do the same."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A channel or connection closed, in words that are the same for both."""

    scope: str
    code: int
    text: str


class Side:
    """One of the two brokers."""

    def __init__(self, peer: Peer, prefix: str) -> None:
        self.peer = peer
        self.prefix = prefix
        self.tags: dict[tuple[int, Message], int] = {}
        """By channel and message: the tag of its last delivery there."""
        self.connect()

    def connect(self) -> None:
        """A new connection, with all its channels."""
        self.client: Client = self.peer.connect()
        self.control = self.client.channel()
        self.channels: list[Channel] = [self.client.channel() for _ in range(CHANNELS)]
        self.channels[PUBLISHER].confirms()
        self.counter = self.client.channel()

    def name(self, short: str) -> str:
        """The name on the broker: the virtual host is shared with other runs."""
        return f"{self.prefix}{short}" if short[:1] in "qx" else short

    def do(self, index: int, command: Callable[["Side", Channel], Any]) -> Any:
        """Run a command on a channel: what it gives, or why it was closed; it is open again."""
        try:
            channel = self.channels[index]
            answer = command(self, channel)
            channel.round_trip()
            return answer
        except ClosedError as error:
            refusal = Refusal(error.scope, error.code, self._plain(error.text))
        if refusal.scope == "connection":
            self.connect()
        else:
            self.reopen(index)
        return refusal

    def _plain(self, text: str) -> str:
        """An error's words without what is this broker's own."""
        vhost = f"vhost '{self.peer.address.vhost}'"
        text = text.replace(vhost, "vhost '/'").replace(self.prefix, "")
        # The embedded broker does not keep the width of a number that it has read.
        return re.sub("type '(byte|unsignedbyte|signedint|short|unsignedint)'", "type 'int'", text)

    def reopen(self, index: int) -> None:
        """A new channel in the place of a closed one; what it was told is forgotten."""
        self.channels[index] = self.client.channel()
        if index == PUBLISHER:
            self.channels[index].confirms()

    def counts(self, queue: str) -> tuple[int, int] | None:
        """What is ready and who consumes; None when there is no such queue."""
        try:
            return self.counter.counts(self.name(queue))
        except ClosedError as error:
            assert error.code == 404, error
            self.counter = self.client.channel()
            return None

    def take(self) -> list[list[Event]]:
        """What has arrived on each channel since the last time."""
        return [channel.arrived() for channel in self.channels]

    def clear(self, queues: list[str], exchanges: list[str]) -> None:
        """Delete what the commands may have declared."""
        for queue in queues:
            self.control.call(Queue.Delete(queue=self.name(queue)))
        for exchange in exchanges:
            self.control.call(Exchange.Delete(exchange=self.name(exchange)))
        self.client.close()
        self.peer.clients.remove(self.client)


class Pair:
    """Both brokers, and what is known to be the same on them."""

    def __init__(self, real: Peer, embedded: Peer, prefix: str, queues: list[str]) -> None:
        self.real, self.embedded = Side(real, prefix), Side(embedded, prefix)
        self.queues = queues
        self.held: list[list[Message]] = [[] for _ in range(CHANNELS)]
        """By channel: what is unacked, in the order of delivery."""
        self.log: list[str] = []
        self.commands = 0

    def __repr__(self) -> str:
        return "\n".join(self.log)

    def do(self, what: str, index: int, command: Callable[[Side, Channel], Any]) -> Any:
        """Tell both, and compare what they answer and what comes of it."""
        self.log.append(what)
        self.commands += 1
        sides = (self.embedded, self.real)
        ours, theirs = (self._shown(side, index, side.do(index, command)) for side in sides)
        self._same("the answer", ours, theirs)
        if isinstance(ours, Refusal):
            for closed in range(CHANNELS) if ours.scope == "connection" else (index,):
                self.held[closed].clear()
        self._agree()
        return ours

    def _shown(self, side: Side, index: int, answer: Any) -> Any:
        if not isinstance(answer, tuple) or not isinstance(answer[1], Delivered):
            return answer
        queue, message, no_ack = answer
        self._hold(side, index, queue, message, no_ack=no_ack)
        return (queue, _content(side, message), message.left)

    def _hold(
        self, side: Side, index: int, queue: str, message: Delivered, *, no_ack: bool
    ) -> None:
        if not no_ack:
            side.tags[index, (queue, message.body)] = message.tag
            if side is self.embedded:
                self.held[index].append((queue, message.body))

    def _agree(self) -> None:
        """Wait until both have come to rest, and compare all that came of it."""
        deadline = time.monotonic() + AGREEMENT
        ours = {queue: self.embedded.counts(queue) for queue in self.queues}
        while (theirs := {queue: self.real.counts(queue) for queue in self.queues}) != ours:
            if time.monotonic() > deadline:
                break
            # Dead letters of the embedded broker come at once, of a real one in a moment.
            ours = {queue: self.embedded.counts(queue) for queue in self.queues}
        arrived = self.embedded.take()
        others = self.real.take()
        while not _as_many(arrived, others) and time.monotonic() < deadline:
            for theirs_now, more in zip(others, self.real.take(), strict=True):
                theirs_now.extend(more)
            for ours_now, more in zip(arrived, self.embedded.take(), strict=True):
                ours_now.extend(more)
        for index in range(CHANNELS):
            pairs = ((self.embedded, arrived[index]), (self.real, others[index]))
            shown = [self._sorted(side, index, events) for side, events in pairs]
            self._same(f"what arrived on channel {index}", *shown)
        self._same("what is ready, and who consumes", ours, theirs)

    def _sorted(self, side: Side, index: int, events: list[Event]) -> dict[str, list[Any]]:
        """Events by what they come from: between two queues there is no order."""
        found: dict[str, list[Any]] = {}
        for event in events:
            match event:
                case Delivered():
                    queue = event.consumer.partition("-")[0]
                    no_ack = event.consumer.endswith("-")
                    self._hold(side, index, queue, event, no_ack=no_ack)
                    shown = (event.redelivered, *_content(side, event))
                    found.setdefault(event.consumer, []).append(shown)
                case Returned():
                    said = (event.code, event.text, *_content(side, event))
                    found.setdefault("returned", []).append(said)
                case Cancelled():
                    found.setdefault("cancelled", []).append(event.consumer)
                    found["cancelled"].sort()
                case Confirmed():
                    found.setdefault("confirmed", []).append(event)
        return found

    def _same(self, what: str, ours: Any, theirs: Any) -> None:
        if ours != theirs:
            raise DifferenceError(
                f"{what} differs after\n{self!r}\nembedded: {ours}\n{self.real.peer!r}: {theirs}"
            )

    def settle(self, what: str, index: int, place: int, *, multiple: bool, **options: Any) -> None:
        """Ack, nack or reject what is unacked on a channel: by its place, each by its own tag."""
        held = self.held[index]
        message = held[place % len(held)]
        gone = self._up_to(index, message) if multiple else [message]
        multiple = multiple and gone is not None
        said = f"{what} {message} of channel {index} {'multiple' if multiple else ''} {options}"

        def settled(side: Side, channel: Channel) -> None:
            more = {**options, "multiple": True} if multiple else options
            getattr(channel, what)(side.tags[index, message], **more)

        for each in gone or [message]:
            held.remove(each)
        self.do(said, index, settled)

    def _up_to(self, index: int, message: Message) -> list[Message] | None:
        """All with a tag up to the message's; None when it is not the same for both."""
        held = self.held[index]
        both = []
        for side in (self.embedded, self.real):
            limit = side.tags[index, message]
            both.append([each for each in held if side.tags[index, each] <= limit])
        return both[0] if both[0] == both[1] else None

    def published(self, what: str, exchange: str, key: str, body: bytes, **options: Any) -> None:
        """Publish with a confirm, and compare what the broker says to it."""

        def publish(side: Side, channel: Channel) -> Any:
            channel.publish(side.name(key), body, side.name(exchange), **options)
            said: list[Any] = []
            others: list[Event] = []
            while not said or not isinstance(said[-1], Confirmed):
                event = channel.next()
                if isinstance(event, Confirmed):
                    said.append(Confirmed(0, refused=event.refused))
                elif isinstance(event, Returned):
                    said.append((event.code, event.text, event.body))
                else:
                    others.append(event)
            channel.put_back(others)
            return said

        self.do(what, PUBLISHER, publish)

    def recover(self, index: int) -> None:
        """All that is unacked on a channel goes back."""
        self.held[index].clear()
        said = f"recover channel {index}"
        self.do(said, index, lambda _, channel: channel.call(Basic.Recover(True)).name)

    def lose_connection(self) -> None:
        """Both connections break; new ones take their place."""
        self.log.append("lose the connection")
        for side in (self.embedded, self.real):
            side.client.drop()
            side.connect()
        for held in self.held:
            held.clear()
        self.commands += 1
        self._agree()

    def close_channel(self, index: int) -> None:
        """Close a channel on both, and open another in its place."""

        def close(side: Side, channel: Channel) -> None:
            channel.close()
            side.reopen(index)

        self.held[index].clear()
        self.log.append(f"close channel {index}")
        self.commands += 1
        for side in (self.embedded, self.real):
            close(side, side.channels[index])
        self._agree()


def _content(side: Side, message: Delivered | Returned) -> tuple[Any, ...]:
    """What the two have in common of a message."""
    headers = message.headers
    if "x-death" in headers:  # the order of the fields of one is left out, as its time is
        deaths = [{**death, "time": None} for death in headers["x-death"]]
        headers["x-death"] = [sorted(death.items(), key=str) for death in deaths]
    said = sorted(headers.items())
    text = repr((message.exchange, message.key, said, message.properties.priority))
    return (message.body, text.replace(side.prefix, ""))


def _as_many(ours: list[list[Event]], theirs: list[list[Event]]) -> bool:
    return [Counter(type(event) for event in events) for events in ours] == [
        Counter(type(event) for event in events) for events in theirs
    ]
