"""Schedules for people."""

import pytest

from amqpjobs import Cron, Every
from amqpjobs.jobs.schedule.words import words_of


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("0 7 * * mon-fri", "every weekday at 07:00 UTC"),
        ("0 7 * * 1-5", "every weekday at 07:00 UTC"),
        ("@daily", "every day at 00:00 UTC"),
        ("30 7,19 * * *", "every day at 07:30 and 19:30 UTC"),
        ("0 9 * * SAT,SUN", "every Saturday and Sunday at 09:00 UTC"),
        ("0 9 * * 0", "every Sunday at 09:00 UTC"),
        ("0 9 * * 7", "every Sunday at 09:00 UTC"),
        ("0 9 * * Wed", "every Wednesday at 09:00 UTC"),
        ("30 0 7 * * *", "every day at 07:00:30 UTC"),
        ("*/5 * * * *", "every 5 minutes UTC"),
        ("0 */5 * * * *", "every 5 minutes UTC"),
        ("*/7 * * * *", "every seventh minute of every hour UTC"),
        ("@hourly", "at the start of every hour UTC"),
        ("* * * * *", "every minute UTC"),
        ("0 0 L * *", "at 00:00 on the last day of every month UTC"),
        ("0 0 31 * *", "at 00:00 on the 31st day of every month UTC"),
        ("0 0 21,22,23 * *", "at 00:00 on the 21st, the 22nd, and the 23rd day of month UTC"),
        ("0 7 * 6 mon", "at 07:00 on Monday in June UTC"),
        ("0 7 1 * mon", "at 07:00 on the first day of month and on Monday UTC"),
    ],
)
def test_a_cron_expression_is_told(expression: str, words: str) -> None:
    """As people say it where that is short; as cronsim does elsewhere."""
    assert words_of(Cron(expression)) == words


def test_the_zone_is_told() -> None:
    """The time alone says little."""
    berlin = Cron("0 7 * * mon-fri", tz="Europe/Berlin")
    assert words_of(berlin) == "every weekday at 07:00 Europe/Berlin"


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (Every(seconds=1), "every second"), (Every(seconds=90), "every 90 seconds"),
        (Every(minutes=5), "every 5 minutes"), (Every(minutes=90), "every 90 minutes"),
        (Every(minutes=60), "every hour"), (Every(hours=48), "every 2 days"),
    ],
)  # fmt: skip
def test_a_period_is_told_in_its_largest_unit(schedule: Every, words: str) -> None:
    """Of those in which it is a whole number."""
    assert words_of(schedule) == words
