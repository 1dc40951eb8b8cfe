"""What an answer says, written by workers and read by askers; strangers may write one, too."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqpjobs.errors import InvalidResult, JobFailed
from amqpjobs.jobs.message.failure import Failure
from amqpjobs.jobs.message.reply import error_body, read_error, read_value


class Known(Exception):
    pass


class NeedsMore(Exception):
    def __init__(self, one, two):
        super().__init__(one, two)


KNOWN = {"m.Known": Known, "m.NeedsMore": NeedsMore}


def test_a_failure_comes_back_as_it_was():
    """Name, message, job and attempt."""
    body = error_body(Failure("failed", "boom ü", exception="m.Other", job="j", attempt=3))
    error = read_error(body, "asked", "id", KNOWN)
    assert isinstance(error, JobFailed)
    assert str(error) == "boom ü"
    assert (error.error, error.job, error.attempt, error.job_id) == ("m.Other", "j", 3, "id")


def test_without_an_exception_the_reason_is_the_name():
    """Such as `Reject`."""
    body = error_body(Failure("rejected", "no"))
    assert json.loads(body) == {"error": "rejected", "message": "no", "job": None, "attempt": None}
    error = read_error(body, "asked", None, KNOWN)
    assert (error.error, error.job, error.attempt) == ("rejected", "asked", None)


def test_a_known_class_is_made_of_the_message():
    """With the `JobFailed` as its cause."""
    error = read_error(error_body(Failure("failed", "x", exception="m.Known")), "j", None, KNOWN)
    assert (type(error), str(error)) == (Known, "x")
    assert isinstance(error.__cause__, JobFailed)
    error = read_error(
        error_body(Failure("failed", "x", exception="m.NeedsMore")), "j", None, KNOWN
    )
    assert type(error) is JobFailed


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff", b"[]", b"null", b"{}", b'{"error": 1, "message": "x"}', b'{"error": "x"}'],
)
def test_nonsense_is_a_failure_that_says_so(body):
    """It has failed, that much is sure."""
    error = read_error(body, "j", "id", KNOWN)
    assert isinstance(error, JobFailed)
    assert (error.error, error.job, error.attempt) == ("unknown", "j", None)
    assert "does not say why" in str(error)


@given(st.binary() | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.dictionaries(
        st.sampled_from(["error", "message", "job", "attempt"]) | st.text(), inner
    ),
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_any_body_is_an_exception_to_raise(body):
    """Whatever a stranger wrote."""
    error = read_error(body, "j", None, KNOWN)
    assert isinstance(error, JobFailed | Known)


@pytest.mark.parametrize(
    ("body", "content_type", "returns", "value"),
    [
        (b'{"a":1}', "application/json", None, {"a": 1}),
        (b"1", "application/json; charset=utf-8", None, 1),
        (b"1", "application/problem+json", None, 1),
        (b"1", "text/plain", None, b"1"),
        (b"1", None, None, 1),
        (b"\xff", None, None, b"\xff"),
        (b"1", "application/json", bytes, b"1"),
        (b"[1]", "application/json", list[int], [1]),
        (b"[1]", None, list[int], [1]),
    ],
)
def test_the_value_of_a_service_that_is_not_ours(body, content_type, returns, value):
    """JSON if it says so or can be; bytes for the rest."""
    assert read_value("q", body, content_type, returns) == value


@pytest.mark.parametrize(
    ("body", "returns", "match"),
    [(b"{", None, "not JSON"), (b'["secret"]', list[int], "0: Input should be")],
)
def test_a_value_that_is_not_what_was_expected(body, returns, match):
    """The error shows the place, not the value."""
    with pytest.raises(InvalidResult, match=match) as caught:
        read_value("q", body, "application/json", returns)
    assert "secret" not in str(caught.value)
