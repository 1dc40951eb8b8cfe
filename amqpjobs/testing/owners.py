"""What others declare, as a test's broker has it: somebody has to be the owner there.

Changes when an app may use something else that it does not declare.
"""

from amqpjobs.broker.embedded.model.declarations import declare_exchange, declare_queue
from amqpjobs.broker.embedded.model.vhost import VirtualHost
from amqpjobs.jobs.queue.queue import lanes_of
from amqpjobs.jobs.registry import Registry


def declare_for_owners(host: VirtualHost, registry: Registry) -> None:
    """Declare the foreign queues and exchanges of an app, durable and without any arguments but the
    type. A test that needs others declares them itself."""
    for exchange in registry.routes.exchanges.values():
        if exchange.foreign and exchange.name not in host.exchanges:
            declare_exchange(
                host, exchange.name, exchange.type, durable=True, auto_delete=False,
                internal=False, arguments={},
            )  # fmt: skip
    for queue in registry.queues.values():
        for lane in lanes_of(queue) if queue.foreign else ():
            declare_queue(
                host, lane.queue, None, durable=True, exclusive=False, auto_delete=False,
                arguments={"x-queue-type": queue.type},
            )  # fmt: skip
