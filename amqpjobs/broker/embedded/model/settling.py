"""The half of a channel that holds deliveries until they are acknowledged or come back.

Changes when what an acknowledgement does changes.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from amqpjobs.broker.embedded.errors import NOT_IMPLEMENTED, PRECONDITION_FAILED, Refusal
from amqpjobs.broker.embedded.model.consumers import Consumer
from amqpjobs.broker.embedded.model.messages import Entry
from amqpjobs.broker.embedded.model.queues import Queue, Return

if TYPE_CHECKING:
    from amqpjobs.broker.embedded.model.transactions import Transaction
    from amqpjobs.broker.embedded.model.vhost import VirtualHost

Held: TypeAlias = tuple[Entry | None, Queue, Consumer | None]
"""A delivery: the message (None when it was taken away again), its queue, and the consumer it went
to (None for `basic.get`)."""

Group: TypeAlias = tuple[Queue, Consumer | int]
"""Whose deliveries: a consumer's of a queue, or the one of a `basic.get`, by its tag."""


class Settlement(NamedTuple):
    """What becomes of a delivery.

    Attributes:
        why: what the client has said of it.
        requeue: whether it goes back to its queue.
    """

    why: Literal["ack"] | Return
    requeue: bool = False


ACKED = Settlement("ack")


class Settling:
    """What a channel has been given, by delivery tag.

    Attributes:
        unacked: the deliveries that are not acknowledged, in their order.
        shared_limit: how many all consumers of the channel may hold together; 0 for any number.
        shared_held: how many they hold.
    """

    consumers: dict[str, Consumer]
    transaction: "Transaction | None"

    def __init__(self, vhost: "VirtualHost") -> None:
        self.vhost = vhost
        self.unacked: dict[int, Held] = {}
        self.shared_limit = 0
        self.shared_held = 0

    def ack(self, tag: int, multiple: bool = False) -> None:
        """`basic.ack`: of one delivery, or of all up to it; 0 with `multiple` is all there are."""
        if self.transaction is not None:
            self.transaction.settle(ACKED, self._collect(tag, multiple))
        elif not multiple:
            held = self.unacked.pop(tag, None)
            if held is None:
                raise _unknown(tag)
            entry, queue, consumer = held
            if consumer is not None and entry is not None and not self.shared_limit:
                consumer.held -= 1
                self.shared_held -= 1
                queue.unacked -= 1
                queue.released(consumer)
            else:
                self._let_go(queue, consumer, [(tag, entry)])
                self._freed(queue, consumer)
        else:
            self._settle(ACKED, self._collect(tag, multiple))
        if not self.vhost.is_idle:
            self.vhost.run()

    def nack(self, tag: int, multiple: bool = False, requeue: bool = True) -> None:
        """`basic.nack`: back to the queue, or given up."""
        self._refuse(Settlement("nack", requeue), self._collect(tag, multiple))

    def reject(self, tag: int, requeue: bool = True) -> None:
        """`basic.reject`: back to the queue, or given up."""
        self._refuse(Settlement("reject", requeue), self._collect(tag, False))

    def recover(self, requeue: bool = True) -> None:
        """`basic.recover`: all goes back in the next `VirtualHost.dispatch`, consumer by consumer.

        So RabbitMQ settles it: one's messages may be given out before the next one's come back.
        """
        if not requeue:
            raise Refusal(NOT_IMPLEMENTED, "requeue=false")
        held, self.unacked = list(self.unacked.items()), {}
        for group in _grouped(held):
            self.vhost.later(partial(self._hand_back, *group))

    def _hand_back(
        self, queue: Queue, consumer: Consumer | None, held: list[tuple[int, Entry | None]]
    ) -> None:
        self._let_go(queue, consumer, held)
        if not queue.gone:
            queue.give_back([entry for _, entry in held if entry is not None], "nack")
        self._freed(queue, consumer)

    def give_all_back(self, why: Return) -> None:
        """All that is held goes back; it is given out in the next `VirtualHost.run`."""
        held, self.unacked = list(self.unacked.items()), {}
        rank = _rank_by_arrival if self.vhost.profile.counts_acquired else _rank
        for queue, consumer, held_here in _grouped(held, rank):
            self._let_go(queue, consumer, held_here)
            if not queue.gone:
                queue.give_back([entry for _, entry in held_here if entry is not None], why)
            if consumer is not None:
                queue.wake(consumer)
            self.vhost.wake(queue)

    def share(self, limit: int) -> None:
        """Let all consumers of the channel hold so many together; 0 for any number."""
        self.shared_limit = limit
        for consumer in self.consumers.values():
            consumer.queue.wake(consumer)
            self.vhost.wake(consumer.queue)
        self.vhost.run()

    def is_full(self, consumer: Consumer) -> bool:
        """Whether the consumers of the channel hold all that they may together."""
        return bool(self.shared_limit) and self.shared_held >= self.shared_limit

    def pass_on(self, consumer: Consumer) -> None:
        """A consumer has the tag of one that has gone: it has what that one still holds.

        So it is on a quorum queue, and it may take so much less.
        """
        for tag, (entry, queue, before) in self.unacked.items():
            if queue is consumer.queue and before is not None and before.tag == consumer.tag:
                self.unacked[tag] = (entry, queue, consumer)
                if entry is not None:
                    before.held -= 1
                    consumer.held += 1

    def take_away(self, consumer: Consumer, tags: Iterable[int]) -> None:
        """Deliveries were held for too long: they go back, and the consumer is given no more.

        The tags can still be acknowledged. When all have been, the consumer is given messages
        again: RabbitMQ cancels it only in the eyes of its client.
        """
        entries = []
        for tag in tags:
            entry, queue, _ = self.unacked[tag]
            self.unacked[tag] = (None, queue, consumer)
            consumer.overdue.add(tag)
            entries.append((tag, entry))
        queue = consumer.queue
        self._let_go(queue, consumer, entries)
        if not queue.gone:
            queue.give_back([entry for _, entry in entries if entry is not None], "timeout")
            queue.step_back(consumer)
            self.vhost.wake(queue)

    def give_again(self, queue: Queue) -> int:
        """What is held of a queue goes back, as if the channel were gone; but it is not.

        The tags can still be acknowledged, to no effect. It is given out in the next
        `VirtualHost.run`.

        Returns:
            How many messages went back.
        """
        held = [(tag, held) for tag, held in self.unacked.items() if held[0] and held[1] is queue]
        for _, consumer, held_here in _grouped(held):
            self._let_go(queue, consumer, held_here)
            queue.give_back([entry for _, entry in held_here if entry is not None], "down")
            self.unacked.update({tag: (None, queue, consumer) for tag, _ in held_here})
            if consumer is not None:
                queue.wake(consumer)
        self.vhost.wake(queue)
        return len(held)

    def _refuse(self, how: Settlement, held: list[tuple[int, Held]]) -> None:
        if self.transaction is not None:
            self.transaction.settle(how, held)
        else:
            self._settle(how, held)
            self.vhost.run()

    def _settle(self, how: Settlement, held: list[tuple[int, Held]]) -> None:
        """Let go of deliveries. `VirtualHost.run` is the caller's to call."""
        for queue, consumer, held_here in _grouped(held):
            self._let_go(queue, consumer, held_here)
            if how.why != "ack" and not queue.gone:
                entries = [entry for _, entry in held_here if entry is not None]
                if how.requeue:
                    queue.give_back(entries, how.why)
                else:
                    queue.discard(entries, how.why)
            self._freed(queue, consumer)

    def _restore(self, held: list[tuple[int, Held]]) -> None:
        """Deliveries whose settlement is taken back: they are unacknowledged, as before."""
        self.unacked = dict(sorted([*held, *self.unacked.items()], key=lambda each: each[0]))

    def _collect(self, tag: int, multiple: bool) -> list[tuple[int, Held]]:
        if multiple and tag == 0:
            tags = list(self.unacked)
        elif tag not in self.unacked:
            raise _unknown(tag)
        elif multiple:
            tags = []
            for known in self.unacked:
                if known > tag:
                    break
                tags.append(known)
        else:
            tags = [tag]
        return [(each, self.unacked.pop(each)) for each in tags]

    def _let_go(
        self, queue: Queue, consumer: Consumer | None, held: list[tuple[int, Entry | None]]
    ) -> None:
        """Count deliveries as not held any more. Those that were taken away have been counted."""
        count = sum(entry is not None for _, entry in held)
        queue.unacked -= count
        if consumer is not None:
            consumer.held -= count
            self.shared_held -= count
            if consumer.overdue and count < len(held):
                consumer.overdue.difference_update(tag for tag, _ in held)

    def _freed(self, queue: Queue, consumer: Consumer | None) -> None:
        if consumer is None:
            self.vhost.wake(queue)
            return
        if not self.shared_limit:
            queue.released(consumer)
            return
        for other in self.consumers.values():  # any of them may be given what is now allowed
            other.queue.wake(other)
            self.vhost.wake(other.queue)
        self.vhost.wake(queue)


def _grouped(
    held: Iterable[tuple[int, Held]], rank: Callable[[Group], Any] | None = None
) -> list[tuple[Queue, Consumer | None, list[tuple[int, Entry | None]]]]:
    """Deliveries by queue and consumer, in the order in which RabbitMQ settles those."""
    groups: dict[tuple[Queue, Consumer | int], list[tuple[int, Entry | None]]] = {}
    for tag, (entry, queue, consumer) in held:
        groups.setdefault((queue, consumer or tag), []).append((tag, entry))
    return [
        (queue, None if isinstance(who, int) else who, held_here)
        for (queue, who), held_here in sorted(
            groups.items(), key=lambda item: (rank or _rank)(item[0])
        )
    ]


def _rank_by_arrival(group: Group) -> tuple[str, bool, int]:
    """Of a channel that has gone, from 4.3 on: `basic.get` comes after the consumers."""
    queue, who = group
    if isinstance(who, int):
        return queue.name, True, who
    return queue.name, False, who.arrival


def _rank(group: Group) -> tuple[str, bool, str | int]:
    queue, who = group
    if isinstance(who, int):
        return queue.name, False, who  # in Erlang a number comes before a text
    return queue.name, True, who.tag


def _unknown(tag: int) -> Refusal:
    return Refusal(PRECONDITION_FAILED, f"unknown delivery tag {tag}")
