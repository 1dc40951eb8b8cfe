"""The classic queue. Source: RabbitMQ's ``rabbit_amqqueue_process``."""

from collections.abc import Sequence

from amqpjobs.broker.embedded.model.consumers import Choice, Consumer, Round, SingleActive
from amqpjobs.broker.embedded.model.messages import HAS_PRIORITY, Entry, Message
from amqpjobs.broker.embedded.model.queues import Queue, Return, Sender
from amqpjobs.broker.embedded.model.stores import Levels, Line, Store


class ClassicQueue(Queue):
    """What comes back goes to its old place. A limit is looked at before a message comes in."""

    kind = "classic"
    tells_at_once = False

    def give_back(self, entries: Sequence[Entry], why: Return) -> None:
        """To their old places."""
        for entry in entries:
            entry.redelivered = True
            self._count(entry, why)
        self._store.put_back(entries)
        if self._limited:
            self._keep_limits()
        if self._expiring:
            self.expire()

    def discard(self, entries: Sequence[Entry], why: Return) -> None:
        """The rejection itself is a failed delivery, and goes with the dead letter."""
        for entry in entries:
            self._count(entry, why)
        super().discard(entries, why)

    def cancelled(self, consumer: Consumer) -> None:
        """Whoever is next is given what waits at once, or when something else happens."""
        if self.vhost.profile.cancel_hands_over:
            super().cancelled(consumer)
        else:
            self.remove(consumer)

    def released(self, consumer: Consumer) -> None:
        """The same holds for what a cancelled one settles."""
        if self.vhost.profile.cancel_hands_over or not consumer.left:
            super().released(consumer)

    def lets_in(self, *, exclusive: bool) -> bool:
        """One that is to be the only one comes to no others, and no others to it."""
        if self.arguments.get("x-single-active-consumer"):
            return not exclusive
        if exclusive and self.consumers:
            return False
        return not any(consumer.exclusive for consumer in self.consumers)

    def looked_at(self) -> None:
        """That is a use."""
        self.used()

    def _count(self, entry: Entry, why: Return) -> None:
        # It shows nowhere here; but a quorum queue that the dead letter goes to counts on from it.
        if self.vhost.profile.counts_acquired and why in ("reject", "down"):
            entry.failures += 1
            entry.message = entry.message.with_failures(entry.failures)

    def _new_store(self) -> Store:
        return Levels(looks_behind=False) if self._top_priority else Line()

    def _new_choice(self) -> Choice:
        if self.arguments.get("x-single-active-consumer"):
            return SingleActive(by_priority=True, takeover=False)
        return Round(eager=False)

    @property
    def _top_priority(self) -> int:
        return int(self.arguments.get("x-max-priority", 0))

    def _entry(self, message: Message) -> Entry:
        priority = 0
        if message.header[0] & HAS_PRIORITY and self._top_priority:
            priority = min(message.priority or 0, self._top_priority)
        self.entered += 1
        return Entry(message, self.entered, priority)

    def _admits(self, message: Message, sender: Sender | None) -> bool:
        if self._overflow == "drop-head" or not self._is_over(1, len(message.body)):
            return True
        if self._overflow == "reject-publish-dlx":
            self._let_die(Entry(message, 0), "maxlen")
        return False

    def _keep_limits(self) -> None:
        if self._overflow == "drop-head":
            self._drop_head()
