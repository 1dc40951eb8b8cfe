"""What all spans share: errors, links, and their end.

Changes when that does.
"""

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import context as current
from opentelemetry.trace import (
    Link,
    Span,
    SpanContext,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from amqpjobs.errors import RemoteError
from amqpjobs.jobs.exceptions import class_name
from amqpjobs.jobs.message.trace_context import RemoteSpan
from amqpjobs.telemetry import conventions as names

log = logging.getLogger("amqpjobs.telemetry")

FRAMES = 30
"""The innermost stack frames of an exception that a span has."""


@contextmanager
def around(span: Span) -> Iterator[None]:
    """The block is the span's: what it raises, too."""
    token = current.attach(set_span_in_context(span))
    try:
        yield
    except BaseException as error:
        fail(span, error)
        raise
    finally:
        current.detach(token)
        end(span)


def link_to(span: RemoteSpan | None, why: str) -> Link | None:
    """A link to the span that a header names; None if it names none."""
    if span is None:
        return None
    trace_id, span_id, flags = span
    return Link(SpanContext(trace_id, span_id, True, TraceFlags(flags)), {names.LINK: why})


def fail(span: Span, error: BaseException) -> None:
    """Say that it has failed: with the exception's type and where it was raised. Not what it says,
    which may well be a part of what a job was given."""
    if not span.is_recording():
        return
    remote = error if isinstance(error, RemoteError) else None
    kind = remote.exception if remote else class_name(type(error))
    if remote:
        places = "\n".join(reversed(remote.frames))
    else:
        places = "".join(traceback.format_tb(error.__traceback__, -FRAMES))
    span.set_attribute(names.ERROR_TYPE, kind)
    span.set_status(Status(StatusCode.ERROR, kind))
    span.add_event(
        names.EXCEPTION,
        # File names that are not UTF-8 have surrogates in them, which no exporter can encode.
        {
            names.EXCEPTION_TYPE: kind,
            names.EXCEPTION_STACKTRACE: places.encode(errors="backslashreplace").decode(),
        },
    )


def end(span: Span, end_time: int | None = None) -> None:
    """End a span.

    Args:
        end_time: nanoseconds since the epoch; None for now.
    """
    try:
        span.end(end_time)
    except Exception:
        log.exception("span processor failed, span lost")
