"""The W3C trace context as values, for headers and log lines: they need no OpenTelemetry.

Changes when what a message carries of its trace does (https://www.w3.org/TR/trace-context/).
"""

import re
from typing import NamedTuple, Protocol

from amqpjobs.jobs.message.properties import FieldValue, Headers

TRACE_PARENT = "traceparent"
"""The header of the W3C trace context (https://www.w3.org/TR/trace-context/)."""

_TRACE = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def trace_parent(headers: Headers) -> str | None:
    """The ``traceparent`` of a message, if it is one: headers may come from foreign senders."""
    value = headers.get(TRACE_PARENT)
    return value if isinstance(value, str) and _TRACE.fullmatch(value) else None


TRACE_STATE, BAGGAGE = "tracestate", "baggage"

LARGEST = {TRACE_STATE: 512, BAGGAGE: 8192}
"""Characters that have to be passed on, by W3C; what is longer is not."""


class SpanIds(Protocol):
    """What names a span: OpenTelemetry's ``SpanContext`` is one."""

    @property
    def trace_id(self) -> int: ...  # noqa: D102 - 128 bits
    @property
    def span_id(self) -> int: ...  # noqa: D102 - 64 bits
    @property
    def trace_flags(self) -> int: ...  # noqa: D102 - bit 0: it is recorded


class RemoteSpan(NamedTuple):
    """A span of another process, as a header names it."""

    trace_id: int
    span_id: int
    trace_flags: int


SAMPLED = 1
"""The bit of ``trace_flags`` that says that a span is recorded."""


def traceparent_of(span: SpanIds) -> str:
    """The ``traceparent`` that names a span."""
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"


def span_of(traceparent: FieldValue) -> RemoteSpan | None:
    """The span that a ``traceparent`` names, if it is one: senders may be foreign."""
    text = trace_parent({TRACE_PARENT: traceparent})
    if text is None:
        return None
    _, trace, span, flags = text.split("-")
    return RemoteSpan(int(trace, 16), int(span, 16), int(flags, 16))


def carried(headers: Headers) -> dict[str, FieldValue]:
    """What a message says of its trace, to be passed on as it is; nothing if it has none."""
    parent = trace_parent(headers)
    if parent is None:
        return {}
    found: dict[str, FieldValue] = {TRACE_PARENT: parent}
    for name, largest in LARGEST.items():
        value = headers.get(name)
        if isinstance(value, str) and len(value) <= largest:
            found[name] = value
    return found
