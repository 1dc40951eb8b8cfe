"""A channel: AMQP's methods as calls. What it is given and has not acknowledged is kept here.

Changes when a method of AMQP does something else.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from amqpjobs.broker.embedded.errors import (
    ACCESS_REFUSED,
    NOT_ALLOWED,
    NOT_FOUND,
    NOT_IMPLEMENTED,
    PRECONDITION_FAILED,
    RESOURCE_LOCKED,
    Refusal,
    in_vhost,
)
from amqpjobs.broker.embedded.model import declarations
from amqpjobs.broker.embedded.model.arguments import check_consumer_arguments
from amqpjobs.broker.embedded.model.consumer_timeouts import Watch
from amqpjobs.broker.embedded.model.consumers import Consumer
from amqpjobs.broker.embedded.model.direct_reply_to import REPLY_TO, ReplyConsumer
from amqpjobs.broker.embedded.model.messages import Entry, Message
from amqpjobs.broker.embedded.model.names import unique
from amqpjobs.broker.embedded.model.publishing import Publishing
from amqpjobs.broker.embedded.model.queues import Queue
from amqpjobs.broker.embedded.model.settling import Settling
from amqpjobs.broker.embedded.model.sink import Delivery, Sink
from amqpjobs.broker.embedded.model.transactions import Transaction

if TYPE_CHECKING:
    from amqpjobs.broker.embedded.model.vhost import VirtualHost

Arguments: TypeAlias = Mapping[str, Any]

QUORUM_PREFETCH = 2000
"""What a quorum queue takes a prefetch count of 0 for."""


class Channel(Publishing, Settling):
    """One channel. Every method may raise `Refusal`, and the caller then closes the channel.

    Attributes:
        owner: its connection.
        number: its number there.
        stalled: whether its consumers are given nothing for now.
        consumers: by tag.
        reply_consumer: what takes direct replies, if something does.
    """

    def __init__(
        self, vhost: "VirtualHost", owner: object, sink: Sink, *, number: int, user: str
    ) -> None:
        Publishing.__init__(self, vhost, sink, user)
        Settling.__init__(self, vhost)
        self.owner = owner
        self.number = number
        self.stalled = False
        self.consumers: dict[str, Consumer] = {}
        self._watch = Watch(self)
        self._last_queue = ""
        self._last_tag = 0
        self._prefetch = 0
        self._closed = False

    def __repr__(self) -> str:
        return (
            f"<Channel {self.number}: {len(self.consumers)} consumers, "
            f"{len(self.unacked)} unacked{', closed' if self._closed else ''}>"
        )

    def declare_exchange(
        self,
        name: str,
        type: str = "direct",  # noqa: A002 - the protocol's word
        *,
        passive: bool = False,
        durable: bool = False,
        auto_delete: bool = False,
        internal: bool = False,
        arguments: Arguments | None = None,
    ) -> None:
        """`exchange.declare`."""
        if passive:
            declarations.exchange_named(self.vhost, name)
            return
        declarations.declare_exchange(
            self.vhost,
            name,
            type,
            durable=durable,
            auto_delete=auto_delete,
            internal=internal,
            arguments=arguments or {},
        )

    def delete_exchange(self, name: str, *, if_unused: bool = False) -> None:
        """`exchange.delete`. One that does not exist is no error."""
        declarations.delete_exchange(self.vhost, name, if_unused=if_unused)

    def bind_exchange(
        self, destination: str, source: str, routing_key: str, arguments: Arguments | None = None
    ) -> None:
        """`exchange.bind`."""
        declarations.bind_exchange(self.vhost, destination, source, routing_key, arguments or {})

    def unbind_exchange(
        self, destination: str, source: str, routing_key: str, arguments: Arguments | None = None
    ) -> None:
        """`exchange.unbind`. What is not bound is no error."""
        declarations.unbind_exchange(self.vhost, destination, source, routing_key, arguments or {})

    def declare_queue(
        self,
        name: str,
        *,
        passive: bool = False,
        durable: bool = False,
        exclusive: bool = False,
        auto_delete: bool = False,
        arguments: Arguments | None = None,
    ) -> tuple[str, int, int]:
        """`queue.declare`: the name, how many messages wait, how many consumers there are."""
        if name.startswith(REPLY_TO):
            declarations.check_reply_address(self.vhost, name)
            return name, 0, 1
        if passive:
            queue = declarations.queue_named(self.vhost, name, self.owner)
        else:
            queue = declarations.declare_queue(
                self.vhost,
                name,
                self.owner,
                durable=durable,
                exclusive=exclusive,
                auto_delete=auto_delete,
                arguments=arguments or {},
            )
        self._last_queue = queue.name
        queue.looked_at()
        return queue.name, queue.ready, queue.consumer_count

    def delete_queue(self, name: str, *, if_unused: bool = False, if_empty: bool = False) -> int:
        """`queue.delete`: how many messages went with it; 0 too when it does not exist.

        Its consumers learn of it in the next `VirtualHost.dispatch`, behind `queue.delete-ok`.
        """
        return declarations.delete_queue(
            self.vhost, self._named(name), self.owner, if_unused=if_unused, if_empty=if_empty
        )

    def purge_queue(self, name: str) -> int:
        """`queue.purge`: how many messages went."""
        count = self._queue(name).purge()
        self.vhost.run()
        return count

    def bind_queue(
        self, queue: str, exchange: str, routing_key: str, arguments: Arguments | None = None
    ) -> None:
        """`queue.bind`."""
        name, key = self._named(queue), self._key(queue, routing_key)
        declarations.bind_queue(self.vhost, name, exchange, key, arguments or {}, self.owner)

    def unbind_queue(
        self, queue: str, exchange: str, routing_key: str, arguments: Arguments | None = None
    ) -> None:
        """`queue.unbind`. What is not bound is no error."""
        name, key = self._named(queue), self._key(queue, routing_key)
        declarations.unbind_queue(self.vhost, name, exchange, key, arguments or {}, self.owner)

    def select_transactions(self) -> None:
        """`tx.select`: from now on publishes and acknowledgements wait for `commit`."""
        if self._confirming:
            raise Refusal(PRECONDITION_FAILED, "cannot switch from confirm to tx mode")
        if self.transaction is None:
            self.transaction = Transaction()

    def commit(self) -> None:
        """`tx.commit`: publishes first, then acknowledgements, each in their order."""
        done = self._end_transaction()
        refused = [queue for routed in done.published for queue in self._hand_over(routed)]
        for how, held in done.settled:
            self._settle(how, sorted(held, key=lambda each: each[0]))
        self.vhost.run()
        # RabbitMQ forgets what a quorum queue refuses before it has sent everything.
        if any(queue.kind == "classic" for queue in refused):
            raise Refusal(PRECONDITION_FAILED, "partial tx completion")

    def roll_back(self) -> None:
        """`tx.rollback`: what was acknowledged is unacknowledged again; it is not redelivered."""
        self._restore(self._end_transaction().held())
        self._watch.look()

    def _end_transaction(self) -> Transaction:
        done = self.transaction
        if done is None:
            raise Refusal(PRECONDITION_FAILED, "channel is not transactional")
        self.transaction = Transaction()
        return done

    def qos(self, prefetch_count: int, global_: bool = False) -> None:
        """`basic.qos`: for consumers to come; with `global_`, of all consumers of the channel."""
        if global_ and self.vhost.profile.global_prefetch:
            self.share(prefetch_count)
            return
        self._prefetch = prefetch_count
        self.share(0)

    def consume(
        self,
        queue: str,
        tag: str = "",
        *,
        no_ack: bool = False,
        exclusive: bool = False,
        no_local: bool = False,
        arguments: Arguments | None = None,
    ) -> str:
        """`basic.consume`: the consumer's tag. RabbitMQ ignores `no_local`, and so does this.

        Its deliveries start in the next `VirtualHost.dispatch`, so that `basic.consume-ok` can be
        sent ahead of them.
        """
        if tag in self.consumers:
            raise Refusal(NOT_ALLOWED, f"attempt to reuse consumer tag '{tag}'")
        given = tag or f"amq.ctag-{unique(16)}"
        if queue == REPLY_TO:
            self.reply_consumer = self.vhost.replies.open(self, given, no_ack=no_ack)
            return given
        source = self._queue(queue)
        arguments = arguments or {}
        what = in_vhost("queue", source.name, self.vhost.name)
        check_consumer_arguments(self.vhost.profile.version, what, source.kind, arguments)
        if self.shared_limit and source.kind == "quorum":
            raise Refusal(NOT_IMPLEMENTED, f"{what} does not support global qos")
        if not source.lets_in(exclusive=exclusive):
            raise Refusal(ACCESS_REFUSED, f"{what} in exclusive use")
        consumer = self._consumer(source, given, arguments, no_ack=no_ack, exclusive=exclusive)
        self.consumers[given] = consumer
        source.add(consumer)
        self.vhost.wake(source)
        return given

    def cancel(self, tag: str) -> None:
        """`basic.cancel`. A tag that is not known is no error."""
        if self.reply_consumer is not None and self.reply_consumer.tag == tag:
            self.vhost.replies.close(self.reply_consumer)
            self.reply_consumer = None
        consumer = self.consumers.pop(tag, None)
        if consumer is not None:
            consumer.queue.cancelled(consumer)
            self.vhost.left(consumer.queue)
            self.vhost.run()

    def get(self, queue: str, *, no_ack: bool = False) -> Delivery | None:
        """`basic.get`: None for `basic.get-empty`."""
        source = self._queue(queue)
        if source.kind == "quorum" and source.arguments.get("x-single-active-consumer"):
            what = in_vhost("queue", source.name, self.vhost.name)
            name = '<<"quorum">>' if self.vhost.profile.counts_acquired else "quorum"
            raise Refusal(
                RESOURCE_LOCKED,
                f"cannot obtain access to locked {what}. basic.get "
                f"operations are not supported by {name} queues with single active consumer",
            )
        source.used()
        entry = source.take()
        self.vhost.run()
        if entry is None:
            return None
        self._last_tag += 1
        if not no_ack:
            self.unacked[self._last_tag] = (entry, source, None)
            source.unacked += 1
            if self._is_timed(source):
                self._watch.begin(entry, self._timeout(source))
        # Up to 3.13 a quorum queue tells `basic.get` of no failed deliveries, too.
        told = source.kind == "quorum" and not self.vhost.profile.counts_acquired
        message = source.outgoing(entry) if entry.redelivered or told else entry.message
        return Delivery(self._last_tag, entry.redelivered, message, source.ready)

    def give(self, consumer: Consumer, entry: Entry) -> None:
        """Deliver a message of a queue."""
        self._last_tag = tag = self._last_tag + 1
        queue = consumer.queue
        if not consumer.no_ack:
            self.unacked[tag] = (entry, queue, consumer)
            consumer.held += 1
            self.shared_held += 1
            queue.unacked += 1
            if consumer.timeout is not None:
                self._watch.begin(entry, consumer.timeout)
        message = queue.outgoing(entry) if entry.redelivered else entry.message
        self.sink.deliver(consumer.tag, tag, entry.redelivered, message)

    def give_reply(self, consumer: ReplyConsumer, message: Message) -> None:
        """Deliver a direct reply."""
        # Up to 3.13 a reply uses up no delivery tag: the next delivery has the same.
        tag = self._last_tag + 1
        if not self.vhost.profile.returns_direct_replies:
            self._last_tag = tag
        self.sink.deliver(consumer.tag, tag, False, message)

    def lost(self, consumer: Consumer) -> None:
        """A consumer's queue is gone."""
        if self.consumers.pop(consumer.tag, None) is not None:
            self.sink.cancelled(consumer.tag)

    def fail(self, refusal: Refusal) -> None:
        """Close the channel because of what it did not do."""
        self.close()
        self.sink.failed(refusal)

    def close(self) -> None:
        """Give all unacknowledged messages back, and let its consumers go. Twice is no error."""
        if self._closed:
            return
        self._closed = True
        self._watch.stop()
        if self.reply_consumer is not None:
            self.vhost.replies.close(self.reply_consumer)
        left = {consumer.queue: None for consumer in self.consumers.values()}
        for consumer in self.consumers.values():
            consumer.queue.remove(consumer)
        self.consumers.clear()
        for target in list(self.published_to):
            target.forget(self)
        for queue in left:
            self.vhost.left(queue)
        if self.transaction is not None:
            self._restore(self._end_transaction().held())
        self.give_all_back("down")
        self.vhost.run()

    def pause(self) -> None:
        """Deliver nothing to this channel's consumers until `resume`."""
        self.stalled = True

    def resume(self) -> None:
        """Deliver again."""
        self.stalled = False
        for consumer in self.consumers.values():
            consumer.queue.wake(consumer)
            self.vhost.wake(consumer.queue)
        self.vhost.run()

    def _consumer(
        self, queue: Queue, tag: str, arguments: Arguments, *, no_ack: bool, exclusive: bool
    ) -> Consumer:
        consumer = Consumer(self, tag, queue, no_ack=no_ack)
        consumer.exclusive = exclusive
        consumer.prefetch = self._prefetch
        if queue.kind == "quorum":
            consumer.prefetch = self._prefetch or QUORUM_PREFETCH
            self.pass_on(consumer)
        consumer.priority = arguments.get("x-priority", 0)
        if self._is_timed(queue):
            named = arguments.get("x-consumer-timeout")
            consumer.timeout = self._timeout(queue) if named is None else named / 1000
        return consumer

    def _timeout(self, queue: Queue) -> float:
        named = queue.arguments.get("x-consumer-timeout")
        return self.vhost.consumer_timeout if named is None else float(named) / 1000

    def _is_timed(self, queue: Queue) -> bool:
        # From 4.3 on classic queues have no consumer timeout.
        return queue.kind == "quorum" or self.vhost.profile.late_ack_closes_channel

    def _queue(self, name: str) -> Queue:
        return declarations.queue_named(self.vhost, self._named(name), self.owner)

    def _named(self, name: str) -> str:
        """The queue that is meant: an empty name is the one declared last on this channel."""
        if name:
            return name
        if not self._last_queue:
            raise Refusal(NOT_FOUND, "no previously declared queue")
        return self._last_queue

    def _key(self, queue: str, routing_key: str) -> str:
        return routing_key if queue or routing_key else self._named("")
