"""Messages as values: what AMQP 0-9-1 says about one, and a call of a job that can be sent.

Changes when the wire contract changes.
"""

import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Generic, NamedTuple, TypeAlias, TypeVar

R_co = TypeVar("R_co", covariant=True)

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
"""The AMQP ``type`` of a reply that says why there is no result: see `amqpjobs.answers`."""

CANCEL = "amqpjobs.cancel"
"""The AMQP ``type`` of the word that an asker does not want the answer any more. It has the id, the
``correlation_id`` and the ``reply_to`` of the request, which nobody else knows all of."""

HEADER_ATTEMPT = "amqpjobs-attempt"
"""Which run of the job this is, counted from 1; missing means 1."""

HEADER_COPY = "amqpjobs-copy"
"""Which publish of a job this is: text that no other publish has, such as a random number. Every
copy has it, and every first publish whose id was not made for it alone. A redelivery is recognised
by it."""

HEADER_DEADLINE = "amqpjobs-deadline"
"""Not to be started after this time: milliseconds since the epoch."""

HEADER_DROPPED = "amqpjobs-dropped"
"""The names of headers that a copy had no room for, or that AMQP cannot hold: a list of text."""

HEADER_DUE = "amqpjobs-due"
"""Not to be started before this time: milliseconds since the epoch."""

HEADER_EPOCH = "amqpjobs-epoch"
"""How often the job was replayed from the dead letters; missing means never."""

HEADER_ERROR = "amqpjobs-error"
"""Why a message is in ``<queue>.dead`` or ``<queue>.parked``: a table, see `Failure`."""

HEADER_HISTORY = "amqpjobs-history"
"""The errors of earlier runs, oldest first: a list of such tables, the last few of them."""

HEADER_PROGRESS = "amqpjobs-progress"
"""How far the job was when it ran last: a table of ``fraction`` (0 to 1) and ``message``."""

HEADER_FIRST_TRY = "amqpjobs-first-try"
"""The ``traceparent`` of the span of the job's first run, on the copies that run again; missing if
that run was not traced."""

DIRECT_REPLY = "amq.rabbitmq.reply-to"
"""RabbitMQ's address for answers without a queue (https://www.rabbitmq.com/docs/direct-reply-to)."""

TRACE_PARENT = "traceparent"
"""The header of the W3C trace context (https://www.w3.org/TR/trace-context/)."""

_TRACE = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def trace_parent(headers: Headers) -> str | None:
    """The ``traceparent`` of a message, if it is one: strangers write headers."""
    value = headers.get(TRACE_PARENT)
    return value if isinstance(value, str) and _TRACE.fullmatch(value) else None


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


_VARIANT = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}


def new_job_id() -> str:
    """A UUID of version 7 (RFC 9562): sorts by time, and is made without asking anybody."""
    # Put together from digits: half the time of shifting and masking one large number.
    time_ = f"{time.time_ns() // 1_000_000:012x}"
    random = os.urandom(10).hex()
    return (
        f"{time_[:8]}-{time_[8:]}-7{random[:3]}-{_VARIANT[random[3]]}{random[4:7]}-{random[7:19]}"
    )


_NEW_JOB_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def is_new_job_id(job_id: str) -> bool:
    """Whether an id has the form of those that `new_job_id` makes."""
    return _NEW_JOB_ID.fullmatch(job_id) is not None


def new_token() -> str:
    """What tells one publish of a job from every other."""
    return os.urandom(8).hex()


@dataclass(frozen=True, slots=True)
class Options:
    """What one call may say about itself, beyond its arguments.

    Attributes:
        priority: the name of one of the queue's ``priorities``, or a number on a classic queue with
            ``max_priority``; None for the queue's middle one.
        expires: seconds after which a job that was not started is not run any more.
        timeout: seconds that this call itself may take: for ``later`` until the broker has
            confirmed; None for the setting ``AMQPJOBS_PUBLISH_TIMEOUT``; for ``request`` until
            the answer is there; None for ``AMQPJOBS_REQUEST_TIMEOUT``.
        delay: seconds, counted from publishing, before which it is not started.
        at: the same as a time: seconds since the epoch.
    """

    priority: str | int | None = None
    expires: float | None = None
    timeout: float | None = None
    delay: float | None = None
    at: float | None = None

    def due(self, now: float) -> float | None:
        """Not to be started before this time (seconds since the epoch), if it is still to come."""
        due = now + self.delay if self.delay is not None else self.at
        return due if due is not None and due > now else None


NO_OPTIONS = Options()


class _Unsent:
    """Whether a message has an id of its own and was not published yet. No field: a message that is
    made of another one, by `dataclasses.replace` or a copy, shares its id and has no such mark."""

    __slots__ = ("_unsent",)
    _unsent: bool


@dataclass(frozen=True, slots=True)
class Message(_Unsent, Generic[R_co]):
    """A call of a job, validated and encoded, ready to be sent: ``job.message(x)``.

    Its arguments are a snapshot: what happens to the objects afterwards changes nothing.

    Attributes:
        id: the job's id, a UUID of version 7. The same over all its runs.
        job: the job's name.
        queue: the queue it goes to (the one of its priority).
        body: the arguments as JSON.
        tracked: the queue as its status shows it, whatever the priority; None for a job whose
            status nobody is told.
    """

    id: str
    job: str
    queue: str
    body: bytes
    options: Options = NO_OPTIONS
    native_priority: int | None = None
    tracked: str | None = None


_mark, _unmark = object.__setattr__, object.__delattr__


def has_own_id(message: Message[R_co]) -> Message[R_co]:
    """Mark a message whose id was made for it: until it is published, nothing else has that id."""
    _mark(message, "_unsent", True)
    return message


def takes_own_id(message: Message[R_co]) -> bool:
    """Whether this publish of a message is the only one with its id. True once at most."""
    try:
        _unmark(message, "_unsent")  # one step, since two threads may publish it at a time
    except AttributeError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class JobHandle(Generic[R_co]):
    """What ``later`` returns: RabbitMQ has the job and confirmed it.

    Attributes:
        id: the job's id, which is in every log line about it.
        job: the job's name.
        queue: the queue that it waits in.
    """

    id: str
    job: str
    queue: str


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a message was put aside: the ``amqpjobs-error`` header of a dead or parked message.

    Attributes:
        reason: one word for the kind, such as ``failed``, ``invalid`` or ``unknown-job``.
        message: what a person should read. It never holds the job's arguments.
        exception: the exception's qualified name, if there was one.
        frames: the innermost stack frames, innermost first: ``module:line function``.
        job: the job's name, if known.
        queue: the queue that the message was consumed from.
        worker: host and process id of the worker.
        time: seconds since the epoch.
        attempt: which run it was, from 1.
    """

    reason: str
    message: str
    exception: str | None = None
    frames: tuple[str, ...] = ()
    job: str | None = None
    queue: str | None = None
    worker: str | None = None
    time: float | None = None
    attempt: int | None = None
