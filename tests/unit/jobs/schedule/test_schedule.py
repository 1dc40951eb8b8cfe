"""`Cron` and `Every`: what they take, and what they say about what they do not."""

import time
from contextlib import suppress
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amqpjobs import Cron, Every
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.schedule.dues import next_after
from amqpjobs.jobs.schedule.expression import WORDS
from amqpjobs.jobs.schedule.words import words_of


def test_equal_schedules_are_equal_however_they_are_written() -> None:
    """They are compared with what the store has."""
    berlin = Cron("0 7 * * *", tz="Europe/Berlin", within=60, jitter=timedelta(seconds=5))
    same = Cron(" 0  7 * * * ", ZoneInfo("Europe/Berlin"), within=timedelta(minutes=1), jitter=5)
    assert berlin == same
    assert hash(berlin) == hash(same)
    assert Cron("@daily") == Cron("@DAILY", tz="UTC")
    assert Every(minutes=5) == Every(seconds=300)
    assert Every(hours=1, minutes=30).period == 5400
    assert Every(minutes=0.5).period == 30


def test_they_are_shown_by_what_is_special() -> None:
    """As they could be written."""
    assert repr(Cron("@daily", missed="all")) == "Cron('@daily', tz='UTC', missed='all')"
    assert repr(Every(minutes=5, jitter=10)) == "Every(seconds=300, jitter=10.0)"
    assert eval(repr(Every(hours=2, name="x"))) == Every(hours=2, name="x")


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("0 25 * * *", "field 2, the hour, has '25' at character 3: write 0 to 23"),
        ("1,2,99 * * * *", "field 1, the minute, has '99' at character 5"),
        ("60 0 7 * * *", "field 1, the second, has '60' at character 1"),
        (" 0  7 *  * mon,xx", "field 5, the day-of-week, has 'xx' at character 16"),
        ("0 7 * * fri-mon", "a range goes upwards"),
        ("0 0 ? * *", "'?' at character 5.*\\* is any"),
        ("0 7 1,,2 * *", "field 3, the day-of-month, has '' at character 7"),
        ("0 7 * *", "has 4 fields: write five"),
        ("* * * * * * *", "has 7 fields"),
        ("", "has 0 fields"),
        ("0 0 30 2 *", "never: none of the months '2' has a day '30'"),
        ("@dayly", "did you mean '@daily'"),
        ("@reboot", "there are @yearly"),
        ("* " * 101, "202 characters, and 200 is the limit"),
        (7, "Cron takes a cron expression"),
        (None, "Cron takes a cron expression"),
    ],
)
def test_a_wrong_expression_says_where_and_what_to_write(expression: Any, said: str) -> None:
    """When the module loads, not at seven in the morning."""
    with pytest.raises(ConfigurationError, match=said):
        Cron(expression)


@pytest.mark.parametrize("word", [*WORDS, "@Hourly", " @daily "])
def test_the_words_of_crontab_are_known(word: str) -> None:
    """The seven of Debian; cronsim has none of them."""
    assert next_after(Cron(word), 0.0) is not None


CHARACTERS = "0123456789*/,-#LW?@ amonfrijMONSUN²\x00é\ud800"


@settings(deadline=None)  # it looks at its own time
@given(
    st.text(st.sampled_from(CHARACTERS), max_size=220)
    | st.lists(st.text(st.sampled_from("0123456789*/,-#LWmonjan"), max_size=9), max_size=7).map(
        " ".join
    )
)
def test_any_text_is_a_schedule_or_refused_quickly(text: str) -> None:
    """It may come from a user of the application. What is taken can be computed and told."""
    began = time.process_time()
    try:
        schedule = Cron(text, tz="Europe/Berlin")
    except ConfigurationError as error:
        assert len(str(error)) < 1500
    else:
        assert next_after(schedule, 1.7e9) is not None
        assert words_of(schedule)
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    "expression",
    [
        ",".join(["*"] * 97) + " * * * *", "0 0 * 2 mon#5", "0 0 29 2 mon", "59 59 23 31 12 *",
        "0 0 */31,30 2 mon#5", "L" * 200, "*/" + "9" * 150 + " * * * *", "0 0 1 1 " + "1-" * 90,
        "@" * 200, "-" * 100 + " * * * *", "1/1/1/1 * * * *", "0 0 L-3 * *", "0 0 * * 5L/2",
    ],
)  # fmt: skip
def test_hostile_expressions_end_quickly(expression: str) -> None:
    """Taken or refused, in a fraction of a second."""
    began = time.process_time()
    with suppress(ConfigurationError):
        next_after(Cron(expression, tz="Europe/Berlin"), 1.7e9)
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    ("tz", "said"),
    [
        ("Europe/Berln", "no time zone 'Europe/Berln'; did you mean 'Europe/Berlin'"),
        ("Berlin", "did you mean 'Europe/Berlin'"),
        ("../../etc/passwd", "no time zone"),
        ("/etc/localtime", "no time zone"),
        ("localtime", "no time zone"),
        ("right/Europe/Berlin", "no time zone"),
        ("Europe", "no time zone"),
        ("", "names are like 'Europe/Berlin'"),
        ("a\0b", "no time zone"),
        ("\ud800", "no time zone"),
        ("x" * 100_000, "no time zone"),
        (7, "tz is the name of a time zone"),
        (timedelta(hours=1), "tz is the name of a time zone"),
    ],
)
def test_an_unknown_zone_names_the_nearest(tz: Any, said: str) -> None:
    """And reads no file outside of the database."""
    with pytest.raises(ConfigurationError, match=said) as refused:
        Cron("@daily", tz=tz)
    assert len(str(refused.value)) < 400


def test_a_machine_without_zones_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slim containers have none; UTC needs none."""
    monkeypatch.setattr("amqpjobs.jobs.schedule.schedule.zone_named", lambda name: None)
    monkeypatch.setattr("amqpjobs.jobs.schedule.schedule.all_zones", list)
    with pytest.raises(ConfigurationError, match="no time zones.*install .*tzdata"):
        Cron("@daily", tz="Europe/Berlin")
    assert Cron("@daily", tz="UTC") == Cron("@daily")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "from 1 to"), ({"seconds": 0.5}, "whole number of seconds"),
        ({"minutes": -1, "hours": 1}, "whole number"), ({"days": 1e9}, "8.5 years"),
        ({"seconds": float("nan")}, "whole number"), ({"seconds": float("inf")}, "whole number"),
        ({"seconds": 10**400}, "whole number"), ({"minutes": "5"}, "are numbers"),
        ({"minutes": True}, "are numbers"), ({"minutes": timedelta(1)}, "are numbers"),
        ({"minutes": 5, "jitter": 300}, "jitter is .* below 300"),
        ({"minutes": 5, "jitter": -1}, "jitter"), ({"minutes": 5, "jitter": "1"}, "jitter"),
        ({"minutes": 5, "missed": "none"}, "missed is 'latest', 'skip' or 'all', not 'none'"),
        ({"minutes": 5, "overlap": []}, "overlap is 'skip', 'allow' or 'queue_one'"),
        ({"minutes": 5, "within": -1}, "within"), ({"minutes": 5, "within": None}, "within"),
        ({"minutes": 5, "name": ""}, "name is text"), ({"minutes": 5, "name": " a"}, "name"),
        ({"minutes": 5, "name": "a\nb"}, "name"), ({"minutes": 5, "name": "x" * 201}, "name"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(options: dict[str, Any], said: str) -> None:
    """With what to write."""
    with pytest.raises(ConfigurationError, match=said):
        Every(**options)


def test_a_schedule_cannot_be_changed() -> None:
    """It is a value."""
    with pytest.raises(AttributeError):
        Cron("@daily").jitter = 5  # type: ignore[misc]
