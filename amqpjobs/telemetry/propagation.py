"""The W3C trace context in message headers (https://www.w3.org/TR/trace-context/).

A job's own messages go on with the trace of the job. Changes when propagation does.
"""

import re
import sys
from typing import Any

from amqpjobs.context import Context
from amqpjobs.message import FieldValue, Headers

TRACE_PARENT = "traceparent"

_VALID = re.compile(r"[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def incoming_trace(headers: Headers) -> str | None:
    """The ``traceparent`` of a message, if it is one: strangers write headers."""
    value = headers.get(TRACE_PARENT)
    return value if isinstance(value, str) and _VALID.fullmatch(value) else None


def outgoing_trace(context: Context | None) -> dict[str, FieldValue]:
    """The headers that carry the trace of whoever publishes now; none where there is no trace."""
    # Importing OpenTelemetry costs a program that does not trace 70 ms; one that does has it.
    if "opentelemetry.trace" in sys.modules:
        from opentelemetry import propagate

        carrier: dict[str, Any] = {}
        propagate.inject(carrier)
        if carrier:
            return carrier
    if context is not None and context.trace_parent:
        return {TRACE_PARENT: context.trace_parent}
    return {}
