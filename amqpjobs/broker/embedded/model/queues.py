"""A queue: its messages, consumers and expiry. The base of the classic and the quorum queue.

Changes when both types of queue do something else.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from amqpjobs.broker.embedded.clock import Handle
from amqpjobs.broker.embedded.model.consumers import Choice, Consumer
from amqpjobs.broker.embedded.model.messages import HAS_EXPIRATION, Entry, Message
from amqpjobs.broker.embedded.model.queue_expiry import Lease
from amqpjobs.broker.embedded.model.stores import Store

if TYPE_CHECKING:
    from amqpjobs.broker.embedded.model.exchanges import Exchange
    from amqpjobs.broker.embedded.model.quorum import QuorumQueue
    from amqpjobs.broker.embedded.model.vhost import VirtualHost

Reason: TypeAlias = Literal["rejected", "expired", "maxlen", "delivery_limit"]
Return: TypeAlias = Literal["nack", "reject", "down", "timeout"]
"""Why a message comes back: `basic.nack` or `basic.recover`, `basic.reject`, its channel has gone,
or its acknowledgement is too late."""


class Sender(Protocol):
    """Who publishes to a queue, and waits for what becomes of it."""

    @property
    def published_to(self) -> "dict[QuorumQueue, None]":
        """The queues that may refuse its messages until further notice."""


class Queue:
    """What both types of queue have in common.

    Attributes:
        owner: whose it is, when it is exclusive: a connection.
        consumers: those it has now, in the order in which they came.
        unacked: how many messages are given out and not acknowledged.
        entered: how many messages have come in since it is there.
        gone: whether it has been deleted; what is given back to it is forgotten.
        fed_by: the exchanges that have bindings to it.
        dead_letters: where messages go that it gives up: exchange and key (None for the message's
            own keys); None when they are dropped.
    """

    kind = ""
    tells_at_once = True
    """Whether a dead letter that failed before is redelivered, too, for a consumer that waits."""

    def __init__(
        self,
        vhost: "VirtualHost",
        name: str,
        arguments: Mapping[str, Any],
        *,
        durable: bool = True,
        auto_delete: bool = False,
        owner: object = None,
    ) -> None:
        self.vhost = vhost
        self.name = name
        self.arguments = dict(arguments)
        self.durable = durable
        self.auto_delete = auto_delete
        self.owner = owner
        self.consumers: dict[Consumer, None] = {}
        self.unacked = 0
        self.gone = False
        self.fed_by: set[Exchange] = set()
        self.dead_letters = _dead_letters_of(arguments)
        self.entered = 0
        self._store: Store = self._new_store()
        self._choice: Choice = self._new_choice()
        self._ttl: int | None = arguments.get("x-message-ttl")
        self._max_length: int | None = arguments.get("x-max-length")
        self._max_bytes: int | None = arguments.get("x-max-length-bytes")
        self._overflow: str = arguments.get("x-overflow", "drop-head")
        self._limited = self._max_length is not None or self._max_bytes is not None
        self._expiring = False  # whether a message that expires has ever been in it
        self._timer: Handle | None = None
        self._due = 0.0
        unused = arguments.get("x-expires")
        self._lease = None if unused is None else Lease(self, unused / 1000, vhost.drop)

    def __repr__(self) -> str:
        return (
            f"<{self.kind} queue {self.name!r}: {self.ready} ready, {self.unacked} unacked, "
            f"{len(self.consumers)} consumers>"
        )

    @property
    def ready(self) -> int:
        """How many messages wait."""
        return len(self._store)

    @property
    def consumer_count(self) -> int:
        """How many consumers it has, as `queue.declare-ok` says."""
        return len(self.consumers)

    def messages(self) -> Iterator[Message]:
        """The messages that wait, in the order in which they would be given out."""
        return (entry.message for entry in self._store)

    def publish(self, message: Message, sender: Sender | None) -> bool:
        """Take a message in, and give out what can be given out.

        Args:
            message: the message.
            sender: the channel that it comes from; None for a dead letter that nobody waits for.

        Returns:
            Whether it is taken. If not, the publisher is told so, when it asked for confirms.
        """
        if self._limited and not self._admits(message, sender):
            return False
        entry = self._entry(message)
        if message.failures:  # a dead letter, from 4.3 on: its next queue counts on
            entry.failures = message.failures
            entry.redelivered = self.tells_at_once
        if self._ttl is not None or message.header[0] & HAS_EXPIRATION:
            entry.expires = self._expiry(message)
            self._expiring = True
        if self.consumers and not self._store:
            consumer = self._choice.next()
            if consumer is not None:  # the common path: it does not wait at all
                consumer.channel.give(consumer, entry)
                return True
            self._store.push(entry)
        else:
            self._store.push(entry)
            if self.consumers:
                self.dispatch()
        if message.failures:
            entry.redelivered = True
        if self._limited:
            self._keep_limits()
        if self._expiring:
            self.expire()
        return True

    def dispatch(self) -> None:
        """Give out what waits to the consumers that can take it."""
        store = self._store
        following = self._choice.next
        while store:
            consumer = following()
            if consumer is None:
                break
            consumer.channel.give(consumer, store.take())
            if self._expiring:
                self.expire()

    def take(self) -> Entry | None:
        """The next message, for `basic.get`."""
        if self._expiring:
            self.expire()
        if not self._store:
            return None
        entry = self._store.take()
        if self._expiring:
            self.expire()
        return entry

    def outgoing(self, entry: Entry) -> Message:
        """A message that was given out before, as it is given out now."""
        return entry.message

    def give_back(self, entries: Sequence[Entry], why: Return) -> None:
        """Messages that were given out come back. `dispatch` is the caller's to call.

        Args:
            entries: in the order in which they were given out, all to one consumer.
            why: what brought them back.
        """
        raise NotImplementedError

    def discard(self, entries: Sequence[Entry], why: Return) -> None:
        """Messages that were given out are given up: they become dead letters, or are dropped."""
        for entry in entries:
            self._let_die(entry, "rejected")

    def released(self, consumer: Consumer) -> None:
        """A consumer holds less than before: what waits may go to it."""
        self._choice.wake(consumer)
        if self._store:
            self.dispatch()

    def cancelled(self, consumer: Consumer) -> None:
        """A consumer was cancelled, and is removed."""
        self.remove(consumer)
        self.vhost.wake(self)

    def wake(self, consumer: Consumer) -> None:
        """A consumer may be able to take again; `dispatch` is the caller's to call."""
        self._choice.wake(consumer)

    def step_back(self, consumer: Consumer) -> None:
        """A consumer held a message for too long, and is given nothing for now."""

    def purge(self) -> int:
        """Drop what waits; how many messages those were."""
        purged = len(self._store)
        self._store.clear()
        return purged

    def add(self, consumer: Consumer) -> None:
        """A consumer has come. It is given nothing before `dispatch`."""
        self.consumers[consumer] = None
        self._choice.add(consumer)

    def remove(self, consumer: Consumer) -> None:
        """A consumer has gone. What it holds, it holds."""
        del self.consumers[consumer]
        consumer.left = True
        self._choice.remove(consumer)
        self.used()

    def lets_in(self, *, exclusive: bool) -> bool:
        """Whether another consumer may come; with `exclusive`, one that is to be the only one."""
        return True

    def used(self) -> None:
        """Somebody uses it: it is not deleted for being unused."""
        if self._lease is not None:
            self._lease.renew()

    def looked_at(self) -> None:
        """It has been declared again, or passively."""

    def close(self) -> None:
        """It is being deleted: its timers are not needed any more."""
        self.gone = True
        if self._timer is not None:
            self._timer.cancel()
        if self._lease is not None:
            self._lease.cancel()

    def expire(self) -> None:
        """Give up what has expired, and come back when something else will."""
        now = self.vhost.clock.time()
        for entry in self._store.expired(now):
            self._let_die(entry, "expired")
        due = self._store.next_expiry()
        if due is None or (self._timer is not None and self._due <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        self._timer = self.vhost.clock.call_at(due, self._wake_to_expire)

    def _wake_to_expire(self) -> None:
        self._timer = None
        self.expire()
        self.vhost.run()

    def _let_die(self, entry: Entry, reason: Reason) -> None:
        if self.dead_letters is not None:
            self.vhost.bury(self, entry.message, reason)

    def _expiry(self, message: Message) -> float:
        text = message.expiration
        ttl = self._ttl if text is None else int(text)
        if self._ttl is not None and text is not None:
            ttl = min(self._ttl, int(text))
        return self.vhost.clock.time() + (ttl or 0) / 1000

    def _is_over(self, extra: int = 0, extra_bytes: int = 0) -> bool:
        if self._max_length is not None and len(self._store) + extra > self._max_length:
            return True
        if self._max_bytes is None:
            return False
        return self._bytes() + extra_bytes > self._max_bytes

    def _bytes(self) -> int:
        return sum(self.size_of(message) for message in self.messages())

    def size_of(self, message: Message) -> int:
        """What a message counts for in the limit of bytes."""
        return len(message.body)

    def _drop_head(self) -> None:
        while self._store and self._is_over():
            self._let_die(self._store.take(), "maxlen")

    def _entry(self, message: Message) -> Entry:
        self.entered += 1
        return Entry(message, self.entered)

    def _new_store(self) -> Store:
        raise NotImplementedError

    def _new_choice(self) -> Choice:
        raise NotImplementedError

    def _admits(self, message: Message, sender: Sender | None) -> bool:
        """Whether the limits let this message in."""
        raise NotImplementedError

    def _keep_limits(self) -> None:
        """See to the limits after a message has come in, and what could be has been given out."""
        raise NotImplementedError


def _dead_letters_of(arguments: Mapping[str, Any]) -> tuple[str, str | None] | None:
    exchange = arguments.get("x-dead-letter-exchange")
    return None if exchange is None else (exchange, arguments.get("x-dead-letter-routing-key"))
