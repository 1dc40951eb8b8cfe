"""What a fault does within the virtual host: to consumers, and to what they hold.

Changes when there is another thing to do there.
"""

from collections.abc import Iterable

from amqpjobs.broker.embedded.model.channel import Channel
from amqpjobs.broker.embedded.model.queues import Queue
from amqpjobs.broker.embedded.model.vhost import VirtualHost


def cancel_consumers(vhost: VirtualHost, name: str) -> int:
    """Cancel all consumers of a queue, which stays; how many there were.

    Raises:
        LookupError: there is no such queue.
    """
    queue = _queue(vhost, name)
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

    Raises:
        LookupError: there is no such queue.
    """
    queue = _queue(vhost, name)
    count = sum([channel.give_again(queue) for channel in channels])
    vhost.run()
    return count


def _queue(vhost: VirtualHost, name: str) -> Queue:
    try:
        return vhost.queues[name]
    except KeyError:
        raise LookupError(f"the broker has no queue {name!r}: {sorted(vhost.queues)}") from None
