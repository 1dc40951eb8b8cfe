"""The headers of task messages: what Celery has sent, and what anybody might."""

import contextlib
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amqpjobs.contrib.celery.headers import TaskHeaders, is_task, moment, read_headers
from amqpjobs.errors import DecodeError
from tests.support.celery_messages import CAPTURED, properties

MINIMAL = {"task": "shop.tasks.add", "id": "7"}


def test_delay() -> None:
    """`add.delay(2, 3)`: its name and its id, and nothing else decides anything."""
    headers = read_headers(properties("delay").headers)
    task_id = "8ff561ca-30e1-4bb6-b02f-70d465ca4b0d"
    assert headers == TaskHeaders("shop.tasks.add", task_id, task_id)


def test_eta_and_countdown() -> None:
    """Both are a time, with an offset."""
    expected = datetime(2030, 1, 1, tzinfo=UTC).timestamp()
    assert read_headers(properties("eta").headers).eta == expected
    assert read_headers(properties("countdown").headers).eta is not None


def test_expires() -> None:
    """A number of seconds is sent as a time."""
    expected = datetime(2026, 11, 30, 2, 32, 44, 598737, UTC).timestamp()
    assert read_headers(properties("expires").headers).expires == expected


def test_time_limits() -> None:
    """The soft limit counts, which comes first; without one, the hard one."""
    assert read_headers(properties("timelimit").headers).time_limit == 10
    assert read_headers({**MINIMAL, "timelimit": [20, None]}).time_limit == 20
    assert read_headers({**MINIMAL, "timelimit": [None, None]}).time_limit is None


def test_ignored_results_groups_and_compression() -> None:
    """What else the headers say."""
    assert read_headers(properties("kwargs").headers).ignore_result
    assert not read_headers(properties("send_task").headers).ignore_result
    assert read_headers(properties("group").headers).group is not None
    assert read_headers(properties("gzip").headers).compression == "application/x-gzip"


def test_a_naive_time_is_utc() -> None:
    """As Celery's own are by default."""
    assert moment("2030-01-01T00:00:00", "eta") == datetime(2030, 1, 1, tzinfo=UTC).timestamp()


def test_every_captured_message_of_protocol_2_is_read() -> None:
    """And the one of protocol 1 is known to be another."""
    for name in CAPTURED:
        headers = properties(name).headers
        assert is_task(headers) == (name != "v1"), name
        if name != "v1":
            assert read_headers(headers).id == CAPTURED[name]["properties"]["headers"]["id"]


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("task", ""), ("task", None), ("task", 3), ("task", "x" * 256), ("task", ["shop"]),
        ("id", None), ("id", "x" * 256), ("id", b"7"),
        ("eta", 5), ("eta", "tomorrow"), ("eta", ["2030-01-01"]), ("eta", True),
        ("expires", "soon"), ("expires", 1.5),
        ("retries", -1), ("retries", "1"), ("retries", True), ("retries", 10**9),
        ("timelimit", 5), ("timelimit", [1]), ("timelimit", ["1", None]), ("timelimit", [0, None]),
        ("timelimit", [True, None]), ("timelimit", [float("nan"), None]),
        ("timelimit", [float("inf"), None]),
        ("compression", 7),
    ],
)  # fmt: skip
def test_a_header_that_makes_no_sense_is_refused_by_name(header: str, value: Any) -> None:
    """The error names the header, and shows no value."""
    with pytest.raises(DecodeError, match=header):
        read_headers({**MINIMAL, header: value})


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text()
    | st.binary() | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
NAMES = ("task", "id", "root_id", "group", "eta", "expires", "retries", "timelimit",
         "ignore_result", "compression")  # fmt: skip


@settings(deadline=None)
@given(st.fixed_dictionaries({}, optional=dict.fromkeys(NAMES, VALUES)))
def test_whatever_headers_there_are(headers: dict[str, Any]) -> None:
    """They are read, or refused by a `DecodeError`: nothing else is raised."""
    with contextlib.suppress(DecodeError):
        read_headers({**MINIMAL, **headers})
