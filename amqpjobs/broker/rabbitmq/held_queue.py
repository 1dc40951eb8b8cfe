"""An exclusive queue as a lock: one connection has it, and it is gone with that connection.

Nothing is ever in it. Changes when RabbitMQ tells in another way that somebody else has it.
"""

from aiormq import exceptions as aiormq_errors

from amqpjobs.broker.rabbitmq.connection import Wire
from amqpjobs.broker.rabbitmq.declarer import Declarer
from amqpjobs.broker.rabbitmq.permission_errors import refusal_of


async def take_queue(wire: Wire, name: str) -> bool:
    """Declare the queue for this connection; to be called again, it is no other.

    Returns:
        Whether this connection has it; False if another has.

    Raises:
        NotPermitted: this user may not declare it.
        BrokerUnavailable: the connection went away.
    """
    async with Declarer(wire) as declarer:
        try:
            await declarer.call(lambda channel: channel.queue_declare(name, exclusive=True))
        except aiormq_errors.ChannelAccessRefused as error:
            raise refusal_of(error, "configure") from error
        except aiormq_errors.ChannelLockedResource:
            return False
    return True
