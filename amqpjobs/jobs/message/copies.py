"""Copies of messages: what may go along into the dead letters and back, and why one was made.

Changes when a copy may carry something else.
"""

from amqpjobs.jobs.message.events import Progress
from amqpjobs.jobs.message.failure import Failure
from amqpjobs.jobs.message.headers import (
    HEADER_ATTEMPT,
    HEADER_COPY,
    HEADER_DEADLINE,
    HEADER_DUE,
    HEADER_EPOCH,
    HEADER_ERROR,
    HEADER_FIRST_TRY,
    HEADER_HISTORY,
    HEADER_PROGRESS,
    _table,
    epoch_of,
    failure_of,
    history_of,
    milliseconds,
    progress_header,
)
from amqpjobs.jobs.message.ids import new_token
from amqpjobs.jobs.message.properties import (
    DIRECT_REPLY,
    PERSISTENT,
    FieldValue,
    Properties,
)
from amqpjobs.jobs.message.trace_context import SAMPLED, SpanIds, span_of, traceparent_of

BROKER_HEADERS = frozenset({
    "x-death", "x-first-death-exchange", "x-first-death-queue", "x-first-death-reason",
    "x-last-death-exchange", "x-last-death-queue", "x-last-death-reason",
    "x-delivery-count", "x-acquired-count", "CC", "BCC",
})  # fmt: skip
"""Written by the broker, or obeyed by it. On a copy they would be taken for its own history (up to
3.13: a cycle, and dropped; https://github.com/celery/celery/issues/9867), or copy it elsewhere."""

LEFT_BEHIND = BROKER_HEADERS | {HEADER_ERROR, HEADER_DUE}


def copied(original: Properties, failure: Failure | None = None) -> Properties:
    """The properties of a copy, with why it was put aside, or without for one that goes back. It
    has a token of its own, by which its redeliveries are told from those of all other copies.

    What would act on the copy stays behind: its expiration; when it was due; the broker's own
    headers; and what RabbitMQ closes the channel over: ``user_id``, which it compares with the user
    who publishes (https://www.rabbitmq.com/docs/validated-user-id), and the bare address for direct
    replies, which an AMQP 1.0 client can write (tried on 3.10.8 and 4.3.6).
    """
    reply_to = None if original.reply_to == DIRECT_REPLY else original.reply_to
    headers: dict[str, FieldValue] = {
        k: v for k, v in original.headers.items() if k not in LEFT_BEHIND
    }
    headers[HEADER_COPY] = new_token()
    if failure is not None:
        headers[HEADER_ERROR] = _table(failure)
    return original._replace(
        headers=headers,
        delivery_mode=PERSISTENT,
        reply_to=reply_to,
        expiration=None,
        user_id=None,
    )


def retried(original: Properties, failure: Failure, attempt: int, due: float) -> Properties:
    """The properties of the copy that runs after a failed run.

    Args:
        failure: of that run; it becomes the last of the history.
        attempt: which run the next one is.
        due: when it is to be, in seconds since the epoch.
    """
    later = snoozed(original, due)
    headers: dict[str, FieldValue] = {
        **later.headers,
        HEADER_ATTEMPT: attempt,
        HEADER_HISTORY: [_table(f) for f in history_of(later.headers, failure)],
    }
    return later._replace(headers=headers)


def snoozed(original: Properties, due: float) -> Properties:
    """The properties of the copy that runs at a later time, as if it were this one."""
    later = copied(original)
    return later._replace(headers={**later.headers, HEADER_DUE: milliseconds(due)})


def with_progress(copy: Properties, progress: Progress | None) -> Properties:
    """A copy that says how far the job was; None for no news, which leaves what it says already."""
    if progress is None:
        return copy
    return copy._replace(headers={**copy.headers, HEADER_PROGRESS: progress_header(progress)})


def with_first_try(copy: Properties, span: SpanIds | None) -> Properties:
    """A copy that names the span of the job's first run, for the spans of later ones to link to.

    Args:
        span: of the run that ends now: it was the first, if the copy does not name one already.
            One that nobody recorded is not worth a header.
    """
    if span is None or not span.trace_flags & SAMPLED:
        return copy
    if span_of(copy.headers.get(HEADER_FIRST_TRY)) is not None:
        return copy
    return copy._replace(headers={**copy.headers, HEADER_FIRST_TRY: traceparent_of(span)})


def replayed(original: Properties) -> Properties:
    """The properties of a dead letter that gets another life: attempts are counted from 1 again,
    the epoch is one more, the deadline is gone, nobody waits for an answer, and why it died is the
    last of its history."""
    failure = failure_of(original.headers)
    headers = dict(copied(original).headers)
    headers.pop(HEADER_ATTEMPT, None)
    headers.pop(HEADER_DEADLINE, None)
    headers[HEADER_EPOCH] = epoch_of(original.headers) + 1
    headers[HEADER_HISTORY] = [_table(f) for f in history_of(original.headers, failure)]
    return copied(original)._replace(headers=headers, reply_to=None, correlation_id=None)
