"""How a worker is, in a word or two, for probes. Changes when there is another way to be unwell."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from amqpjobs.rabbitmq.connection import Link
from amqpjobs.rabbitmq.consumption import Subscription
from amqpjobs.worker.liveness import OK, STARTING
from amqpjobs.worker.progress import Progress

if TYPE_CHECKING:
    from amqpjobs.publisher import Publisher


def condition(
    link: Link,
    publisher: "Publisher | None",
    subscriptions: Iterable[Subscription],
    progress: Progress | None = None,
) -> str:
    """The state of a worker that was not told to stop: see `Liveness`."""
    if publisher is not None and publisher.publication.blocked is not None:
        return f"blocked: {publisher.publication.blocked}"
    subscriptions = list(subscriptions)
    if not all(subscription.starts for subscription in subscriptions):
        return STARTING
    if link.wire is None or (publisher is not None and publisher.link.wire is None):
        return "reconnecting"
    lost = [s.queue for s in subscriptions if not s.consuming and not s.paused]
    if lost:
        return f"not consuming: {', '.join(lost)}"
    return (progress.problem() if progress is not None else None) or OK
