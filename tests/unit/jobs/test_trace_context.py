"""The W3C trace context as values."""

import pytest

from amqpjobs.jobs.message.trace_context import RemoteSpan, carried, span_of, traceparent_of

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_traceparent_names_a_span_and_back():
    """All of it."""
    span = span_of(PARENT)
    assert span == RemoteSpan(0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331, 1)
    assert traceparent_of(span) == PARENT
    assert traceparent_of(RemoteSpan(1, 2, 3)) == f"00-{'1'.zfill(32)}-{'2'.zfill(16)}-03"


@pytest.mark.parametrize(
    "nonsense", [None, 5, b"x", "", PARENT.upper(), PARENT + "0", [PARENT], "ff" + PARENT[2:]]
)
def test_a_strangers_nonsense_names_none(nonsense):
    """It is no error, either."""
    assert span_of(nonsense) is None


def test_what_is_carried_is_the_trace_and_nothing_else():
    """With what W3C has to be passed on beside it."""
    trace = {"traceparent": PARENT, "tracestate": "a=b", "baggage": "tenant=7"}
    assert carried({**trace, "x-own": 1, "amqpjobs-attempt": 2}) == trace


@pytest.mark.parametrize(
    "headers", [{}, {"tracestate": "a=b"}, {"traceparent": 5, "baggage": "a=b"}]
)
def test_without_a_trace_there_is_nothing_to_carry(headers):
    """Neither is the rest of one."""
    assert carried(headers) == {}


def test_what_is_too_long_is_left_behind():
    """Headers that grow at each job would not fit into a frame in the end."""
    headers = {"traceparent": PARENT, "tracestate": "x" * 513, "baggage": "x" * 8193}
    assert carried(headers) == {"traceparent": PARENT}
