"""Seconds as users give them: for verdicts as for options, with the same bounds and words."""

from datetime import timedelta
from typing import Any

import pytest

from amqpjobs import App, RetryAfter, Snooze
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.durations import LONGEST_DELAY, ago, duration_words
from amqpjobs.jobs.job import definition_of
from amqpjobs.jobs.run_context import plain_context

MAKE: Any = {
    "Snooze": Snooze,
    "RetryAfter": RetryAfter,
    "RateLimited": plain_context("job", "id").rate_limited,
}
WRONG = [-1, -0.001, float("nan"), float("inf"), True, LONGEST_DELAY + 1, 10**400, "60", None]


def test_the_longest_pause_is_the_longest_delay() -> None:
    """On the broker both are the same."""
    assert LONGEST_DELAY == LONGEST_DELAY


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("given", [*WRONG, timedelta(seconds=-1), timedelta(days=9 * 365)])
def test_a_verdict_has_the_bounds_of_a_delay(name: str, given: Any) -> None:
    """Refused when it is made, where the traceback shows who made it."""
    with pytest.raises(ConfigurationError) as raised:
        MAKE[name](given)
    words = f"is a number of seconds from 0 to {LONGEST_DELAY} (8.5 years)"
    assert str(raised.value).startswith(f"the pause of {name} {words}")
    assert f"not {given!r}" in str(raised.value)


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize(
    ("given", "seconds"),
    [(0, 0.0), (1.5, 1.5), (LONGEST_DELAY, LONGEST_DELAY), (timedelta(minutes=2), 120.0)],
)
def test_what_a_verdict_takes(name: str, given: Any, seconds: float) -> None:
    """Numbers, and a timedelta."""
    made = MAKE[name](given)
    assert made.seconds == seconds
    assert type(made.seconds) is float


@pytest.mark.parametrize("given", [*WRONG, timedelta(seconds=-1)])
def test_a_delay_has_the_same(given: Any) -> None:
    """The same words, as well."""
    app = App("tests")

    @app.job(queue="work")
    def job() -> None: ...

    if given is None:
        return
    with pytest.raises(ConfigurationError, match="delay is a number of seconds from 0 to"):
        job.with_options(delay=given)


def test_options_take_a_timedelta() -> None:
    """Wherever they take seconds."""
    app = App("tests")

    @app.job(queue="work", timeout=timedelta(minutes=1), keep_result=timedelta(hours=1))
    def job() -> None: ...

    hour = timedelta(hours=1)
    options = job.with_options(expires=hour, timeout=hour, delay=hour).message().options
    assert (options.expires, options.timeout, options.delay) == (3600.0, 3600.0, 3600.0)
    assert definition_of(job).timeout == 60.0


@pytest.mark.parametrize("given", [0, -1, timedelta(0), True, "60", float("nan")])
def test_a_timeout_of_a_job_that_is_none_is_named(given: Any) -> None:
    """With the job, where it is declared."""
    app = App("tests")
    with pytest.raises(ConfigurationError, match=r"job .*timeout is a number of seconds above 0"):

        @app.job(queue="work", timeout=given)
        def job() -> None: ...


@pytest.mark.parametrize("given", [0, True, "60", timedelta(0), float("inf")])
@pytest.mark.parametrize("option", ["expires", "timeout"])
def test_other_options_of_a_call_are_named(option: str, given: Any) -> None:
    """No bare TypeError."""
    app = App("tests")

    @app.job(queue="work")
    def job() -> None: ...

    with pytest.raises(ConfigurationError, match=f"{option} is a number of seconds above 0"):
        job.with_options(**{option: given})


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0.0 ms"), (0.0004, "0.4 ms"), (0.0022, "2.2 ms"), (0.00996, "10 ms"), (0.34, "340 ms"),
        (0.9996, "1.0 s"), (3.44, "3.4 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min"),
        (125, "2 min 5 s"), (3599.7, "1 h"), (5400, "1 h 30 min"), (90_000, "1 d 1 h"),
    ],
)  # fmt: skip
def test_a_duration_in_words(seconds: float, words: str) -> None:
    """With one digit behind the point below ten, and never 60 s."""
    assert duration_words(seconds) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "now"), (-0.4, "now"), (12.7, "12 s ago"), (60, "1 min ago"), (200, "3 min ago"),
        (7200, "2 h ago"), (86_400 * 3.9, "3 d ago"), (-7300, "in 2 h"),
    ],
)  # fmt: skip
def test_how_long_ago(seconds: float, words: str) -> None:
    """In one unit."""
    assert ago(seconds) == words
