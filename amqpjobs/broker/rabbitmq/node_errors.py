"""Errors of a RabbitMQ node itself that have a known cause, and say how to fix it.

Changes when another trap of RabbitMQ is known, or one is fixed.
"""

from aiormq import exceptions as aiormq_errors

from amqpjobs.errors import BrokerUnavailable
from amqpjobs.jobs.queue.topology import QueueDeclaration

FIX = (
    "If no queue with at-least-once dead-lettering can be declared on that node, its "
    "rabbit_fifo_dlx_sup has ended (rabbitmq-server#16652): restart that node"
)


def dead_lettering_ended(error: BrokerUnavailable, declaration: object) -> BrokerUnavailable | None:
    """The error for a quorum queue that cannot start the worker of its dead letters; None for
    another.

    RabbitMQ closes the connection over its declaration with INTERNAL_ERROR; from 4.3 the words are
    ``Cannot declare quorum queue ... cluster_not_formed``, on 3.10 there are none (seen on 3.10.8
    and 4.3.6).

    Args:
        error: of the declaration.
        declaration: what was declared.
    """
    cause = error.__cause__
    if not isinstance(cause, aiormq_errors.ConnectionInternalError):
        return None
    if not isinstance(declaration, QueueDeclaration):
        return None
    if declaration.arguments.get("x-dead-letter-strategy") != "at-least-once":
        return None
    said = str(cause.args[0] if cause.args else cause)
    return BrokerUnavailable(
        f"RabbitMQ could not declare the quorum queue {declaration.name!r}: {said}. {FIX}"
    )
