"""What a fault does within the virtual host: to consumers, and to what they hold.

Changes when there is another thing to do there.
"""

from collections.abc import Iterable, Mapping

from amqpjobs.broker.embedded.model.channel import Channel
from amqpjobs.broker.embedded.model.vhost import VirtualHost


def vhost_with(vhosts: Mapping[str, VirtualHost], name: str) -> VirtualHost:
    """The first virtual host that has a queue of that name.

    Raises:
        LookupError: none has.
    """
    for vhost in vhosts.values():
        if name in vhost.queues:
            return vhost
    queues = sorted({queue for vhost in vhosts.values() for queue in vhost.queues})
    raise LookupError(f"the broker has no queue {name!r}: {queues}")


def cancel_consumers(vhost: VirtualHost, name: str) -> int:
    """Cancel all consumers of a queue, which stays; how many there were."""
    queue = vhost.queues[name]
    consumers = list(queue.consumers)
    for consumer in consumers:
        queue.remove(consumer)
        consumer.channel.lost(consumer)
    vhost.wake(queue)
    vhost.left(queue)
    vhost.run()
    return len(consumers)


def redeliver(vhost: VirtualHost, channels: Iterable[Channel], name: str) -> int:
    """Give back what is unacknowledged, and deliver it again; how many messages that were.

    Who held them does not learn of it, and may still acknowledge them, to no effect.
    """
    queue = vhost.queues[name]
    count = sum([channel.give_again(queue) for channel in channels])
    vhost.run()
    return count
