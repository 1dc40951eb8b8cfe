"""Whether a process has broadcast handlers: else nothing of them is imported.

Changes when it is decided otherwise which publisher of a process listens.
"""

from typing import TYPE_CHECKING

from amqpjobs.broker.rabbitmq.connection import Link
from amqpjobs.client.exchanges import Exchanges
from amqpjobs.jobs.runtime import Runtime

if TYPE_CHECKING:
    from amqpjobs.client.broadcasts import Broadcasts


def broadcasts_of(runtime: Runtime, link: Link, exchanges: Exchanges) -> "Broadcasts | None":
    """The broadcast handlers of an app, for one publisher; None for an app without any."""
    if not runtime.registry.broadcasts:
        return None
    from amqpjobs.client.broadcasts import Broadcasts

    return Broadcasts(link, exchanges, runtime.registry, runtime.settings.max_message_size)
