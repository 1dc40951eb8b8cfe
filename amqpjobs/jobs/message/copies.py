"""Copies of messages: what may go along into the dead letters and back.

What their headers say is made in `amqpjobs.jobs.message.headers`. Changes when a copy may carry
another property.
"""

from collections.abc import Iterable
from typing import Protocol

from amqpjobs.jobs.message.events import Progress
from amqpjobs.jobs.message.failure import Failure
from amqpjobs.jobs.message.header_info import JobHeaders
from amqpjobs.jobs.message.headers import (
    first_try_header,
    first_try_of,
    for_copy,
    for_next_run,
    for_replay,
    for_retry,
    origin_header,
    origin_of,
    progress_header,
    write,
)
from amqpjobs.jobs.message.properties import (
    DIRECT_REPLY,
    PERSISTENT,
    FieldValue,
    Headers,
    Properties,
)
from amqpjobs.jobs.message.steps import CarriedStep
from amqpjobs.jobs.message.trace_context import SAMPLED, SpanIds


class Remembered(Protocol):
    """The steps that a run of a durable job without a store hands to the next run."""

    @property
    def carried(self) -> Iterable[CarriedStep]:
        """The steps, in the order in which they began."""
        ...

    @property
    def changed(self) -> bool:
        """Whether they differ from the steps in the message of the run."""
        ...

    @property
    def suspending(self) -> bool:
        """Whether the run was suspended and continues later, or in another worker."""
        ...


def copied(original: Properties, failure: Failure | None = None) -> Properties:
    """The properties of a copy, with why it was put aside, or without for one that goes back. It
    has a token of its own, by which its redeliveries are told from those of all other copies.

    What would act on the copy stays behind: its expiration; when it was due; the broker's own
    headers; and what RabbitMQ closes the channel over: ``user_id``, which it compares with the user
    who publishes (https://www.rabbitmq.com/docs/validated-user-id), and the bare address for direct
    replies, which an AMQP 1.0 client can write (tried on 3.10.8 and 4.3.6).
    """
    return _with(original, for_copy(original.headers, failure))


def renewed(original: Properties) -> Properties:
    """The properties of a copy that waits in the original's place: not before its time, and not
    beyond it."""
    copy = _with(original, for_copy(original.headers, keep_due=True))
    return copy._replace(expiration=original.expiration)


def retried(original: Properties, failure: Failure, attempt: int, due: float) -> Properties:
    """The properties of the copy that runs after a failed run.

    Args:
        failure: of that run; it becomes the last of the history.
        attempt: which run the next one is.
        due: when it is to be, in seconds since the epoch.
    """
    later = snoozed(original, due)
    return later._replace(headers=for_retry(later.headers, failure, attempt))


def snoozed(original: Properties, due: float) -> Properties:
    """The properties of the copy that runs at a later time, as if it were this one."""
    return _adding(copied(original), write(JobHeaders(due=due)))


def with_progress(copy: Properties, progress: Progress | None) -> Properties:
    """A copy that says how far the job was; None for no news, which leaves what it says already."""
    return copy if progress is None else _adding(copy, progress_header(progress))


def with_steps(copy: Properties, remembered: Remembered | None) -> Properties:
    """A copy that carries the steps of a durable job.

    Args:
        remembered: the steps; None for another job, and for a job whose steps are in the store.
    """
    if remembered is None:
        return copy
    headers = for_next_run(copy.headers, remembered.carried, anew=remembered.suspending)
    return copy._replace(headers=headers)


def with_id(copy: Properties, job_id: str) -> Properties:
    """A copy that says which job it is. A message of another program may have no id: what the job
    had in this run is its id in the next ones, too."""
    if copy.message_id:
        return copy
    if (origin := origin_of(copy.headers)) is not None:  # its id is the event's, and no job's
        return _adding(copy, origin_header(origin._replace(job_id=job_id)))
    return copy._replace(message_id=job_id)


def of_job(copy: Properties, job_id: str, job: str) -> Properties:
    """A copy that waits in a store, and names its job. That of an event keeps the id and the type
    of its publisher, from which the worker finds the job again."""
    if origin_of(copy.headers) is not None:
        return with_id(copy, job_id)
    return copy._replace(message_id=job_id, type=job)


def with_first_try(copy: Properties, span: SpanIds | None) -> Properties:
    """A copy that names the span of the job's first run, for the spans of later ones to link to.

    Args:
        span: of the run that ends now: it was the first, if the copy does not name one already.
            One that was not recorded needs no header.
    """
    if span is None or not span.trace_flags & SAMPLED:
        return copy
    if first_try_of(copy.headers) is not None:
        return copy
    return _adding(copy, first_try_header(span))


def replayed(original: Properties, more: Headers | None = None) -> Properties:
    """The properties of a dead letter that is requeued: attempts are counted from 1 again,
    the epoch is one more, the deadline is gone, no caller waits for a reply, and why it died is the
    last of its history.

    Args:
        more: further headers.
    """
    copy = _with(original, {**for_replay(original.headers), **(more or {})})
    return copy._replace(reply_to=None, correlation_id=None)


def _with(original: Properties, headers: dict[str, FieldValue]) -> Properties:
    return original._replace(
        headers=headers,
        delivery_mode=PERSISTENT,
        reply_to=None if original.reply_to == DIRECT_REPLY else original.reply_to,
        expiration=None,
        user_id=None,
    )


def _adding(copy: Properties, headers: dict[str, FieldValue]) -> Properties:
    return copy._replace(headers={**copy.headers, **headers})
