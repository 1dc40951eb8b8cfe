"""What AMQP 0-9-1 says about a message, as a value.

Changes when AMQP does, or when a message of ours gets another type.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias, TypeGuard

FieldValue: TypeAlias = (
    "bool | int | float | str | bytes | Decimal | datetime"
    " | Sequence[FieldValue] | Mapping[str, FieldValue] | None"
)
"""What an AMQP field table can hold."""


Headers: TypeAlias = Mapping[str, FieldValue]

NO_HEADERS: Headers = MappingProxyType({})

PERSISTENT = 2
"""The AMQP delivery mode of a message that survives a restart of the broker."""

TRANSIENT = 1
"""The AMQP delivery mode of a message for somebody who waits for it now. A classic queue does not
write it to the disk; a quorum queue writes everything."""

JSON = "application/json"

ERROR_REPLY = "amqpjobs.error"
"""The AMQP ``type`` of a reply that says why there is no result: see
`amqpjobs.jobs.message.reply`."""

CANCEL = "amqpjobs.cancel"
"""The AMQP ``type`` of a cancellation: the caller no longer waits. It has the id, the
``correlation_id`` and the ``reply_to`` of the request, which nobody else knows all of."""

HOLDS_CHANGED = "amqpjobs.holds"
"""The AMQP ``type`` of a notice: an operator has paused or resumed queues, or set rates. A worker
looks at the marker then."""

INSPECT = "amqpjobs.inspect"
"""The AMQP ``type`` of a request to every worker to describe itself; the routing key is `FLEET`."""

CANCEL_JOB = "amqpjobs.cancel-job"
"""The AMQP ``type`` of a request to every worker: do not run the job with this ``message_id``, and
cancel it if it runs; the routing key is `FLEET`."""

DIRECT_REPLY = "amq.rabbitmq.reply-to"
"""RabbitMQ's address for replies without a queue (https://www.rabbitmq.com/docs/direct-reply-to)."""


BROKER_HEADERS: Final = frozenset({
    "x-death", "x-first-death-exchange", "x-first-death-queue", "x-first-death-reason",
    "x-last-death-exchange", "x-last-death-queue", "x-last-death-reason",
    "x-delivery-count", "x-acquired-count", "CC", "BCC",
})  # fmt: skip
"""Written by the broker, or obeyed by it. On a copy they would be taken for its own history (up to
3.13: a cycle, and dropped; https://github.com/celery/celery/issues/9867), or copy it elsewhere."""


class Properties(NamedTuple):
    """The AMQP 0-9-1 basic properties of one message, in AMQP's order; None where the message has
    none. A named tuple, because one is made for every message, and a frozen dataclass takes three
    times as long to make.

    Attributes:
        expiration: time to live in the queue, in milliseconds, as AMQP's decimal string.
        timestamp: seconds since the epoch.
        delivery_mode: 1 transient, 2 persistent.
    """

    content_type: str | None = None
    content_encoding: str | None = None
    headers: Headers = NO_HEADERS
    delivery_mode: int | None = None
    priority: int | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    expiration: str | None = None
    message_id: str | None = None
    timestamp: int | None = None
    type: str | None = None
    user_id: str | None = None
    app_id: str | None = None


def is_whole(value: FieldValue) -> TypeGuard[int]:
    """Whether a value is a whole number: to Python, True is one."""
    return type(value) is int
