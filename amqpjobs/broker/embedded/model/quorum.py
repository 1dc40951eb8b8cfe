"""The quorum queue. Source: RabbitMQ's ``rabbit_fifo``, of 3.10 and of 4.3.

Its log and its replicas are left out: with one member they cannot be told from none.
"""

from collections.abc import Sequence
from typing import Any

from amqpjobs.broker.embedded.model.at_least_once import Letters
from amqpjobs.broker.embedded.model.consumers import Choice, Consumer, Round, SingleActive
from amqpjobs.broker.embedded.model.messages import HAS_PRIORITY, Entry, Message
from amqpjobs.broker.embedded.model.queues import Queue, Reason, Return, Sender
from amqpjobs.broker.embedded.model.stores import Levels, Line, Returns, Store

DEFAULT_PRIORITY = 4
TOP_PRIORITY = 31
SOFT_LIMIT = 0.8
"""Publishers that were refused are let in again when so much of the limit is used."""


class QuorumQueue(Queue):
    """What comes back goes to the front, and is counted. Publishers learn of a limit when it is
    passed: the one message that passes it is taken."""

    kind = "quorum"

    def __init__(self, *arguments: Any, **properties: Any) -> None:
        super().__init__(*arguments, **properties)
        self._counts_acquired = self.vhost.profile.counts_acquired
        self._delivery_limit = self._limit_of_deliveries()
        # Anything but dropping the oldest is "reject-publish" to it, as RabbitMQ falls back.
        if self._overflow != "reject-publish":
            self._overflow = "drop-head"
        self._publishers: dict[Sender, bool] = {}  # and whether each is refused
        self._cancelled: list[Consumer] = []  # while they hold something
        self._letters: Letters | None = None
        certain = self.arguments.get("x-dead-letter-strategy") == "at-least-once"
        if self.dead_letters is not None and certain and self._overflow == "reject-publish":
            self._letters = Letters(self)

    @property
    def consumer_count(self) -> int:
        """Those that may be given something, and all that hold something: who has cancelled, too,
        and every message that was taken by `basic.get`."""
        self._cancelled = [consumer for consumer in self._cancelled if consumer.held]
        count = len(self.consumers)
        if isinstance(self._choice, SingleActive):
            count = int(self._choice.active is not None)
        holding = sum(consumer.held for consumer in (*self.consumers, *self._cancelled))
        return count + len(self._cancelled) + self.unacked - holding

    def remove(self, consumer: Consumer) -> None:
        """A consumer has gone. It counts while it holds something."""
        super().remove(consumer)
        if consumer.held:
            self._cancelled.append(consumer)

    def outgoing(self, entry: Entry) -> Message:
        """With the counts of its deliveries in its headers."""
        if not self._counts_acquired:
            return entry.message.with_headers({"x-delivery-count": entry.failures})
        counts = {"x-acquired-count": entry.acquired or entry.failures}
        if entry.failures:
            counts["x-delivery-count"] = entry.failures
        return entry.message.with_headers(counts)

    def give_back(self, entries: Sequence[Entry], why: Return) -> None:
        """To the front. On 3.10, without a delivery limit, what a client gives back: to the end."""
        kept = []
        for entry in entries:
            self._count(entry, why)
            if self._delivery_limit is not None and entry.failures > self._delivery_limit:
                self._let_die(entry, "delivery_limit")
            else:
                entry.redelivered = True
                kept.append(entry)
        if self._delivery_limit is None and not self._counts_acquired and why != "down":
            for entry in kept:
                self._store.push(entry)
        else:
            self._store.put_back(kept)  # what of it is too much is seen when it was given out
        if self._expiring:
            self.expire()

    def discard(self, entries: Sequence[Entry], why: Return) -> None:
        """The rejection itself is a failed delivery, and goes with the dead letter."""
        for entry in entries:
            if self._counts_acquired:
                self._count(entry, why)
            self._let_die(entry, "rejected")

    def dispatch(self) -> None:
        """As of every queue; less may be waiting then than the limit."""
        super().dispatch()
        if self._limited:
            self._keep_limits()

    def step_back(self, consumer: Consumer) -> None:
        """Another consumer is the active one."""
        if isinstance(self._choice, SingleActive):
            self._choice.step_back(consumer)

    def take(self) -> Entry | None:
        """As of every queue."""
        entry = super().take()
        if self._limited:
            self._keep_limits()
        return entry

    def purge(self) -> int:
        """Drop what waits; from 4.3 on with the dead letters that have not arrived."""
        purged = super().purge()
        if self._letters is not None and self._counts_acquired:
            purged += self._letters.clear()
        if self._limited:
            self._keep_limits()
        return purged

    def close(self) -> None:
        """It is being deleted, and its dead letters with it."""
        super().close()
        if self._letters is not None:
            self._letters.clear()

    def forget(self, publisher: Sender) -> None:
        """A channel has gone that may have published to it."""
        self._publishers.pop(publisher, None)

    def letter_arrived(self) -> None:
        """A dead letter counts towards the limits until it has arrived."""
        if self._limited:
            self._keep_limits()

    def _count(self, entry: Entry, why: Return) -> None:
        if not self._counts_acquired:
            entry.failures += 1
            return
        entry.acquired += 1
        if why in ("reject", "down"):
            entry.failures += 1

    def _let_die(self, entry: Entry, reason: Reason) -> None:
        if self._counts_acquired and entry.failures:
            entry.message = entry.message.with_failures(entry.failures)
        if self._letters is None:
            super()._let_die(entry, reason)
        else:
            self._letters.add(entry.message, reason)

    def _expiry(self, message: Message) -> float:
        # Expiry is in whole milliseconds, and not before the next one.
        now = self.vhost.clock.time()
        return max(super()._expiry(message), now + 0.001)

    def _entry(self, message: Message) -> Entry:
        self.entered += 1
        entry = Entry(message, self.entered, DEFAULT_PRIORITY)
        if message.header[0] & HAS_PRIORITY and self.vhost.profile.quorum_priorities:
            entry.priority = min(message.priority or 0, TOP_PRIORITY)
        return entry

    def size_of(self, message: Message) -> int:
        """Its body, and from 4.0 on its properties."""
        return len(message.body) + (len(message.header) if self._counts_acquired else 0)

    def _new_store(self) -> Store:
        if self.vhost.profile.quorum_priorities:
            return Returns(Levels(looks_behind=True), looks_behind=True)
        return Returns(Line(), looks_behind=False)

    def _new_choice(self) -> Choice:
        if self.arguments.get("x-single-active-consumer"):
            by_priority = self.vhost.profile.single_active_by_priority
            return SingleActive(by_priority=by_priority, takeover=by_priority)
        return Round(eager=True)

    def _limit_of_deliveries(self) -> int | None:
        limit = self.arguments.get("x-delivery-limit", self.vhost.profile.default_delivery_limit)
        if limit is None or (limit < 0 and self._counts_acquired):
            return None
        return int(limit)

    def _admits(self, message: Message, sender: Sender | None) -> bool:
        if self._overflow == "drop-head" or sender is None:
            return True
        refused = self._publishers.get(sender)
        if refused is None:
            refused = self._publishers[sender] = self._is_over(*self._letters_held())
            sender.published_to[self] = None
        return not refused

    def _keep_limits(self) -> None:
        if self._overflow == "drop-head":
            self._drop_head()
            return
        if self._is_over(*self._letters_held()):
            self._publishers = dict.fromkeys(self._publishers, True)
        elif self._is_below_soft_limit():
            self._publishers = dict.fromkeys(self._publishers, False)

    def _is_below_soft_limit(self) -> bool:
        letters, letter_bytes = self._letters_held()
        length, size = self._max_length, self._max_bytes
        if length is not None and len(self._store) + letters > int(length * SOFT_LIMIT):
            return False
        if size is None:
            return True
        return self._bytes() + letter_bytes <= int(size * SOFT_LIMIT)

    def _letters_held(self) -> tuple[int, int]:
        return self._letters.held() if self._letters is not None else (0, 0)
