"""How long RabbitMQ lets a worker hold a delivery, and which jobs do not fit into that."""

import pytest

from amqpjobs import App, Queue
from amqpjobs.broker.rabbitmq.profile import Profile
from amqpjobs.settings import load_settings
from amqpjobs.worker.hold_limits import DEFAULT, LONGEST, MARGIN, WITHOUT_TIMEOUT, holding_of

OLD, NEW = Profile((4, 2, 1), "RabbitMQ"), Profile((4, 3, 0), "RabbitMQ")


def holding(profile, *timeouts, kind="quorum", given=None, concurrency=10, held=10):
    """Of a queue with a job for each timeout, and another queue with one that takes for ever."""
    app = App("tests", settings=load_settings(consumer_timeout=given))
    queue = Queue("work", type=kind)
    for number, timeout in enumerate(timeouts):
        app.job(queue=queue, name=f"job{number}", timeout=timeout)(handler)
    app.job(queue="other", name="other")(handler)
    return holding_of(app.client.runtime, queue, profile, concurrency=concurrency, held=held)


async def handler() -> None: ...


def found(holding):
    return [problem.job for problem in holding.problems()]


@pytest.mark.parametrize(
    ("timeouts", "seconds"),
    [
        ([10], DEFAULT),  # never less than what RabbitMQ does by itself
        ([10, 7200], 7200 + MARGIN),
        ([10, None], WITHOUT_TIMEOUT),
        ([100_000, None], 100_000 + MARGIN),
        ([10_000_000], LONGEST),
    ],
)
def test_rabbitmq_43_is_told_what_the_longest_job_needs(timeouts, seconds):
    """In milliseconds, and within what RabbitMQ can count."""
    held = holding(NEW, *timeouts)
    assert held.argument == seconds * 1000
    assert held.limit == seconds


def test_what_waits_behind_others_needs_more():
    """Held four times as much as runs: the last one waits for three others in its slot."""
    assert holding(NEW, 3600, held=40).limit == 4 * 3600 + MARGIN
    assert holding(NEW, 3600, held=31).limit == 4 * 3600 + MARGIN
    assert holding(NEW, 3600, held=1).limit == 3600 + MARGIN


def test_before_43_the_setting_says_what_rabbitmq_has():
    """AMQP does not tell it, and cannot change it."""
    assert holding(OLD, 10).argument is None
    assert found(holding(OLD, 10, DEFAULT, 7200)) == ["job1", "job2"]
    assert found(holding(OLD, 10, 7200, given=7201)) == []
    [problem] = holding(OLD, 7200).problems()
    assert "7200 s" in problem.finding
    assert "1800 s" in problem.finding
    assert "AMQPJOBS_CONSUMER_TIMEOUT" in problem.fix


def test_a_job_that_only_waits_too_long_has_a_fix_of_its_own():
    """Less prefetch is enough."""
    [problem] = holding(OLD, 1000, held=20).problems()
    assert "2000 s" in problem.finding
    assert "AMQPJOBS_PREFETCH" in problem.fix
    assert found(holding(OLD, 1000, held=10)) == []


def test_on_43_the_setting_is_what_rabbitmq_is_told():
    """And what does not fit into it is a problem as before."""
    held = holding(NEW, 10, 7200, given=60)
    assert held.argument == 60_000
    assert found(held) == ["job1"]
    assert found(holding(NEW, 10, 7200, None)) == []


def test_classic_queues_of_43_take_nothing_back():
    """And refuse to be told: a consumer with the argument would not start."""
    held = holding(NEW, 7200, kind="classic", given=60)
    assert (held.argument, held.limit) == (None, None)
    assert found(held) == []
    assert found(holding(OLD, 7200, kind="classic")) == ["job0"]
