"""What a queue may be told about holding its jobs back, and what it refuses."""

import pytest

from amqpjobs import KillSwitch, Queue
from amqpjobs.broker.rabbitmq.pause_marks import mark_of
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.queue.queue import MAX_NAME, slowest_starts_of, starts_of


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"ratio": 1}, "ratio is a number from 0 to below 1, not 1"),
        ({"ratio": -0.1}, "ratio"),
        ({"ratio": float("nan")}, "ratio"),
        ({"at_least": 0}, "at_least is a number of runs from 1, not 0"),
        ({"at_least": True}, "at_least"),
        ({"window": 0}, "window is a number of seconds above 0"),
        ({"pause": 0}, "pause is a number of seconds above 0"),
        ({"pause": float("inf")}, "pause"),
        ({"pause": 10, "longest": 5}, "longest is a number of seconds from pause=10, not 5"),
        ({"on": "ConnectionError"}, "on takes exception classes, not 'ConnectionError'"),
        ({"on": (OSError, int)}, "on takes exception classes, not <class 'int'>"),
    ],
)
def test_a_switch_that_makes_no_sense_is_refused(given, says):
    """Where it is written, with what it should be."""
    with pytest.raises(ConfigurationError, match=says):
        KillSwitch(**given)


@pytest.mark.parametrize(
    ("rate", "starts"),
    [("100/s", 100), ("30/m", 0.5), ("36/h", 0.01), ("2.5/s", 2.5), (" 5 / m ", 5 / 60)],
)
def test_a_rate_is_a_number_and_a_unit(rate, starts):
    """Starts for each second, minute or hour."""
    assert starts_of(Queue("q", rate=rate)) == pytest.approx(starts)


def test_most_queues_have_none():
    """And no switch."""
    assert starts_of(Queue("q")) is None
    assert Queue("q").kill_switch is None


@pytest.mark.parametrize("rate", ["", "100", "0/s", "-1/s", "100/d", "1e3/s", "/s", "٣/s", 100])
def test_a_rate_that_says_nothing_is_refused(rate):
    """With an example of one that does."""
    with pytest.raises(ConfigurationError, match=r"Queue\('q'\): rate is .* such as '100/s'"):
        Queue("q", rate=rate)


def test_a_rate_must_not_hold_a_delivery_for_too_long():
    """RabbitMQ takes it back after 30 minutes: a third of that is the limit."""
    assert starts_of(Queue("q", rate="6/h")) == pytest.approx(1 / 600)
    with pytest.raises(ConfigurationError, match="every 720 s.*30 minutes.*one every 600 s"):
        Queue("q", rate="5/h")


def test_the_least_urgent_priority_counts():
    """Of ten starts it gets one, so that it waits ten times as long."""
    priorities = {"high": 6, "normal": 3, "low": 1}
    assert slowest_starts_of(Queue("q", rate="1/m", priorities=priorities)) == pytest.approx(
        1 / 600
    )
    with pytest.raises(ConfigurationError, match="of the least urgent priority every 1200 s"):
        Queue("q", rate="30/h", priorities=priorities)


def test_the_mark_of_the_longest_name_still_fits():
    """AMQP's names end at 255 bytes."""
    assert len(mark_of(Queue("q" * MAX_NAME).name).encode()) <= 255
