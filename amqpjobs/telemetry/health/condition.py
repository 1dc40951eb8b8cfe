"""A worker's health as a short string, for probes. Changes when there is another state."""

from collections.abc import Callable, Iterable
from typing import Protocol

from amqpjobs.broker.rabbitmq.connection import Link
from amqpjobs.broker.rabbitmq.publication import Publication
from amqpjobs.broker.rabbitmq.subscription import Subscription
from amqpjobs.telemetry.health.heartbeat import STARTING
from amqpjobs.telemetry.health.heartbeat_file import BUT, OK


class Publishing(Protocol):
    """What is asked of a publisher."""

    publication: Publication
    link: Link


def condition(
    link: Link,
    publisher: Publishing | None,
    subscriptions: Iterable[Subscription],
    problem: Callable[[], str | None] = lambda: None,
    beside: str | None = None,
) -> str:
    """The state of a worker that was not told to stop: see `Liveness`.

    Args:
        problem: looks for one that nothing else shows: see `amqpjobs.worker.stalled`.
        beside: what does not go on beside the jobs, in words; None if all does.
    """
    if publisher is not None and publisher.publication.blocked is not None:
        return f"blocked: {publisher.publication.blocked}"
    subscriptions = list(subscriptions)
    if not all(subscription.starts or subscription.paused for subscription in subscriptions):
        return STARTING
    if link.wire is None or (publisher is not None and publisher.link.wire is None):
        return "reconnecting"
    lost = [s.queue for s in subscriptions if not s.consuming and not s.paused]
    if lost:
        return f"not consuming: {', '.join(lost)}"
    return problem() or with_what_is_beside(OK, beside)


def with_what_is_beside(state: str, beside: str | None) -> str:
    """The state of a process that is ok, with what does not go on beside its work."""
    return f"{BUT}{beside}" if state == OK and beside is not None else state
