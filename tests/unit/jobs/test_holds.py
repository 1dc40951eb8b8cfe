"""What operators set for queues, and its marker, which anybody who may publish can write."""

import pytest

from amqpjobs import Queue
from amqpjobs.errors import ConfigurationError, DecodeError
from amqpjobs.jobs.queue.holds import Hold, encode_holds, read_holds, with_rate


def test_a_marker_says_what_was_set() -> None:
    """And reads it back."""
    holds = [
        Hold("work", True, 12.5, "100/s", "ada@bastion", 3.0),
        Hold("mäils", True, None, None, "", 0.0),
        Hold("other", rate="30/m"),
    ]
    assert list(read_holds(encode_holds(holds)).values()) == holds
    assert read_holds(b"{}") == {}


@pytest.mark.parametrize(
    "body",
    [
        b"", b"\xff", b"[]", b'{"q": 1}', b'{"q": {}}', b'{"q": {"paused": 1}}',
        b'{"q": {"paused": true, "until": "x"}}', b'{"q": {"paused": true, "until": true}}',
        b'{"q": {"paused": true, "rate": 5}}', b'{"q": {"paused": true, "rate": "fast"}}',
        b'{"q": {"paused": true, "by": 1}}', b'{"q": {"paused": true, "since": null}}',
        b"[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_marker_is_refused(body: bytes) -> None:
    """With what is wrong with it."""
    with pytest.raises(DecodeError, match="marker"):
        read_holds(body)


def test_a_pause_ends_by_itself_and_a_rate_stays() -> None:
    """By the clock of whoever looks."""
    paused = Hold("work", True, 10.0, None, "ada")
    assert paused.at(9.0) is paused
    assert paused.at(10.0) is None
    assert Hold("work", True).at(1e12) is not None
    limited = Hold("work", True, 10.0, "5/s", "ada").at(11.0)
    assert limited == Hold("work", False, None, "5/s", "ada")


def test_a_rate_is_checked_against_its_queue() -> None:
    """As that of a declaration."""
    queue = Queue("work", rate="1/s", priorities={"high": 9, "low": 1})
    assert with_rate(queue, None) is queue
    assert with_rate(queue, "7/m").rate == "7/m"
    with pytest.raises(ConfigurationError, match="the slowest"):
        with_rate(queue, "1/h")
