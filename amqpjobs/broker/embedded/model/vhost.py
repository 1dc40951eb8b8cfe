"""The virtual host: all exchanges and queues, and what happens between them.

Changes when the broker as a whole does something else.
"""

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from amqpjobs.broker.embedded.clock import Clock
from amqpjobs.broker.embedded.model.channel import Channel
from amqpjobs.broker.embedded.model.dead_lettering import died, ends_here
from amqpjobs.broker.embedded.model.direct_reply_to import PREFIX, Replies
from amqpjobs.broker.embedded.model.exchanges import Direct, Exchange, Fanout, Headers, Topic
from amqpjobs.broker.embedded.model.messages import Message
from amqpjobs.broker.embedded.model.queues import Queue, Reason
from amqpjobs.broker.embedded.model.routing import route
from amqpjobs.broker.embedded.model.sink import Sink
from amqpjobs.broker.embedded.profile import Profile
from amqpjobs.errors import DecodeError

if TYPE_CHECKING:
    from amqpjobs.broker.embedded.model.at_least_once import Letters

CONSUMER_TIMEOUT = 1800.0
"""Seconds until an acknowledgement is too late, where neither queue nor consumer says a time."""

_PREDECLARED = (
    (Direct, "", False),
    (Direct, "amq.direct", False),
    (Fanout, "amq.fanout", False),
    (Headers, "amq.headers", False),
    (Headers, "amq.match", False),
    (Topic, "amq.rabbitmq.trace", True),
    (Topic, "amq.topic", False),
)


class VirtualHost:
    """One virtual host of a broker. It is used from one thread.

    Attributes:
        name: what clients open, and what errors end with.
        exchanges: by name; "" is the default exchange, which routes to the queue of the key's name.
        queues: by name.
        consumer_timeout: seconds until an acknowledgement is too late.
        replies: the channels that take direct replies.
    """

    def __init__(self, profile: Profile, clock: Clock, name: str = "/") -> None:
        self.name = name
        self.profile = profile
        self.clock = clock
        self.consumer_timeout = CONSUMER_TIMEOUT
        self.exchanges: dict[str, Exchange] = {}
        self.queues: dict[str, Queue] = {}
        self.replies = Replies(profile)
        self._work: deque[Callable[[], object]] = deque()
        self._running = False
        self._woken: dict[Queue, None] = {}
        for kind, name, internal in _PREDECLARED:
            self.exchanges[name] = kind(
                name,
                profile=profile,
                durable=True,
                auto_delete=False,
                internal=internal,
                arguments={},
            )

    def __repr__(self) -> str:
        return (
            f"<VirtualHost {self.name} as {self.profile.version}: {len(self.queues)} queues, "
            f"{len(self.exchanges)} exchanges>"
        )

    def open_channel(
        self, owner: object, sink: Sink, *, number: int = 1, user: str = "guest"
    ) -> Channel:
        """Open a channel.

        Args:
            owner: its connection: exclusive queues belong to that.
            sink: what hears what the channel says unasked.
            number: its number, for the words of errors.
            user: who has logged in: a message that names another user is refused.
        """
        return Channel(self, owner, sink, number=number, user=user)

    def close_owner(self, owner: object) -> None:
        """A connection has gone: delete its exclusive queues. Its channels are closed before."""
        for queue in [queue for queue in self.queues.values() if queue.owner is owner]:
            self.delete(queue)
        self.run()

    def dispatch(self) -> None:
        """Deliver what can be. To be called after `consume`, `recover` and `delete_queue` have been
        answered.

        Every other call delivers by itself what it makes possible, before it returns.
        """
        self.run()

    def targets(self, exchange: str, keys: Sequence[str], message: Message) -> list[Queue] | None:
        """The queues that a message goes to, each once; None when the exchange does not exist.

        Replies that go past all queues are handed over here, and are not in the list.
        """
        if exchange:
            start = self.exchanges.get(exchange)
            return None if start is None else route(start, keys, message, self.exchanges)
        found = []
        for key in dict.fromkeys(keys):
            queue = self.queues.get(key)
            if queue is not None:
                found.append(queue)
            elif key.startswith(PREFIX):
                self.replies.deliver(key, message)
        return found

    def bury(self, queue: Queue, message: Message, reason: Reason) -> None:
        """Send a dead letter, as soon as what is going on is over. Nobody waits for it."""
        letter = self.letter(queue, message, reason)
        if letter is not None:
            self.later(partial(self.forward, letter, reason))

    def letter(self, queue: Queue, message: Message, reason: Reason) -> Message | None:
        """The dead letter that a message becomes now; None when its queue sends none."""
        if queue.dead_letters is None:
            return None
        exchange, key = queue.dead_letters
        return died(
            message,
            reason,
            queue.name,
            self.clock.time(),
            exchange=exchange,
            routing_key=key,
            profile=self.profile,
        )

    def forward(
        self,
        letter: Message,
        reason: Reason,
        sender: "Letters | None" = None,
        arrived_at: set[Queue] | None = None,
    ) -> bool:
        """Publish a dead letter.

        Args:
            letter: the dead letter; its exchange and its keys say where it goes.
            reason: why it died.
            sender: who waits for it to arrive, if somebody does.
            arrived_at: the queues that have it, and will not be sent it again; added to.

        Returns:
            Whether every queue that it goes to has it, and there is one.
        """
        try:
            found = self.targets(letter.exchange, letter.keys(), letter) or ()
        except DecodeError:  # where it goes depends on headers that cannot be read
            found = ()
        targets = [
            target for target in found if not ends_here(letter, target.name, reason, self.profile)
        ]
        arrived = set() if arrived_at is None else arrived_at
        for target in targets:
            if target not in arrived and target.publish(letter, sender):
                arrived.add(target)
        return bool(arrived) and arrived.issuperset(targets)

    def later(self, work: Callable[[], object]) -> None:
        """Do something as soon as what is going on is over: queues are never entered twice."""
        self._work.append(work)

    def wake(self, queue: Queue) -> None:
        """Let a queue give out what it can in the next `run`."""
        self._woken[queue] = None

    @property
    def is_idle(self) -> bool:
        """Whether `run` has nothing to do."""
        return not self._work and not self._woken

    def run(self) -> None:
        """Do what was put off. Every call from outside ends with it."""
        if self._running:
            return
        self._running = True
        try:
            while self._work or self._woken:
                while self._work:
                    self._work.popleft()()
                if self._woken:
                    queue = next(iter(self._woken))
                    del self._woken[queue]
                    queue.dispatch()
        finally:
            self._running = False

    def delete(self, queue: Queue) -> int:
        """Delete a queue with all it has; how many messages waited in it.

        Its consumers learn of it in the next `run`.
        """
        count = queue.ready
        del self.queues[queue.name]
        queue.close()
        self._woken.pop(queue, None)
        self._unbind_all(queue)
        for consumer in list(queue.consumers):
            queue.remove(consumer)
            self.later(partial(consumer.channel.lost, consumer))
        return count

    def drop(self, queue: Queue) -> None:
        """Delete a queue that nobody has used for too long."""
        self.delete(queue)
        self.run()

    def left(self, queue: Queue) -> None:
        """A consumer has gone: it may have been the last one that the queue existed for."""
        if queue.auto_delete and not queue.consumers and not queue.gone:
            self.delete(queue)

    def delete_exchange(self, exchange: Exchange) -> None:
        """Delete an exchange with its bindings."""
        del self.exchanges[exchange.name]
        for binding in list(exchange.bindings):
            exchange.take(binding)
        self._unbind_all(exchange)

    def unbound(self, exchange: Exchange) -> None:
        """A binding of this exchange has gone: it may have been the last one it existed for."""
        if exchange.auto_delete and not exchange.bindings:
            self.delete_exchange(exchange)

    def _unbind_all(self, target: "Queue | Exchange") -> None:
        for exchange in list(target.fed_by):
            exchange.forget(target)
            if exchange.name in self.exchanges:
                self.unbound(exchange)
