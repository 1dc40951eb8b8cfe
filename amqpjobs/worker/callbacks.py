"""What follows a job that has ended, as messages that are confirmed before the job is acked.

Changes when an ending has another callback.
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from amqpjobs.broker.rabbitmq.delivery import Delivery
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.message.callbacks import Kind, callback_in
from amqpjobs.jobs.message.message import Message, with_headers
from amqpjobs.jobs.message.own_headers import propagated
from amqpjobs.jobs.message.properties import Headers
from amqpjobs.jobs.outcome import Answered, Done, Expired, Outcome, Rejected
from amqpjobs.jobs.run_context import RunContext
from amqpjobs.jobs.runtime import Runtime
from amqpjobs.telemetry.traces.propagation import reply_trace
from amqpjobs.worker.enveloped import Followers
from amqpjobs.worker.replacing import Copy

if TYPE_CHECKING:
    from amqpjobs.client.publisher import Publisher

log = logging.getLogger("amqpjobs.worker")

MakesCallbacks: TypeAlias = Callable[[Delivery, Outcome, RunContext | None, str], list[Copy]]
"""Makes what follows a delivery that has ended so; the last is where dead letters of its queue
go."""


def callbacks_by(publisher: "Publisher", runtime: Runtime) -> MakesCallbacks:
    """Callbacks as messages of this publisher.

    Args:
        runtime: whose jobs; and the names of headers that callbacks have of the job.
    """
    propagate = runtime.registry.propagate
    largest, time = runtime.settings.max_message_size, runtime.clock.time
    followers = Followers(runtime.registry.jobs, largest, time)

    def make(
        delivery: Delivery, outcome: Outcome, context: RunContext | None, dead: str
    ) -> list[Copy]:
        if delivery.envelope is not None:
            return followers.after(delivery.envelope, delivery, outcome, context, dead)
        one = _callback(delivery, outcome, context, dead)
        return [] if one is None else [one]

    def _callback(
        delivery: Delivery, outcome: Outcome, context: RunContext | None, dead: str
    ) -> Copy | None:
        kind = _kind_of(outcome)
        if kind is None:
            return None
        headers = delivery.readable_properties().headers
        try:
            message = callback_in(headers, kind)
        except ValueError as error:
            keys = context.log_keys() if context is not None else {"queue": delivery.queue}
            log.warning("callback unreadable, ignored", extra={**keys, "error": str(error)})
            return None
        if message is None:
            return None
        if propagate is not None:
            message = _with_headers_of(headers, propagate, message)
        properties, due = publisher.callback(message, reply_trace(context))
        sent = partial(publisher.sent, message, due)
        return Copy(properties, message.body, message.queue, due, instead=dead, confirmed=sent)

    return make


def _with_headers_of(
    headers: Headers, names: tuple[str, ...], message: Message[Any]
) -> Message[Any]:
    try:
        changed = propagated(headers, names, message.options.headers)
    except ConfigurationError as error:
        keys = {"job": message.job, "job_id": message.id, "error": str(error)}
        log.warning("callback without the headers of its job", extra=keys)
        return message
    return message if changed is None else with_headers(message, changed)


def _kind_of(outcome: Outcome) -> Kind | None:
    match outcome:
        case Done():
            return "success"
        case Rejected() | Answered() | Expired():
            return "failure"
        case _:
            return None
