"""Messages as values: what AMQP 0-9-1 says about one, and a call of a job that can be sent.

Changes when the wire contract changes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Generic, TypeAlias, TypeVar

R_co = TypeVar("R_co", covariant=True)

FieldValue: TypeAlias = (
    "bool | int | float | str | bytes | Decimal | datetime | None"
    " | Sequence[FieldValue] | Mapping[str, FieldValue]"
)
"""What an AMQP field table can hold."""

Headers: TypeAlias = Mapping[str, FieldValue]

NO_HEADERS: Headers = {}

PERSISTENT = 2
"""The AMQP delivery mode of a message that survives a restart of the broker."""

JSON = "application/json"

HEADER_ATTEMPT = "amqpjobs-attempt"
"""Which run of the job this is, counted from 1; missing means 1."""

HEADER_DEADLINE = "amqpjobs-deadline"
"""Not to be started after this time: milliseconds since the epoch."""

HEADER_ERROR = "amqpjobs-error"
"""Why a message is in ``<queue>.dead`` or ``<queue>.parked``: a table, see `Failure`."""


@dataclass(frozen=True, slots=True)
class Properties:
    """The AMQP 0-9-1 basic properties of one message; None where the message has none.

    Attributes:
        expiration: time to live in the queue, in milliseconds, as AMQP's decimal string.
        timestamp: seconds since the epoch.
        delivery_mode: 1 transient, 2 persistent.
    """

    content_type: str | None = None
    content_encoding: str | None = None
    headers: Headers = field(default_factory=dict)
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
