"""Schedules as the store keeps them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqpjobs import Cron, Every
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.schedule.spec import schedule_of, spec_of

policies = {
    "missed": st.sampled_from(["latest", "skip", "all"]),
    "within": st.floats(0, 10**8) | st.integers(0, 10**8),
    "overlap": st.sampled_from(["skip", "allow", "queue_one"]),
    "jitter": st.floats(0, 59) | st.integers(0, 59),
    "name": st.none() | st.sampled_from(["nightly", "é 7"]),
}
schedules = st.builds(
    Cron,
    st.sampled_from(["@daily", "0 7 * * mon-fri", "*/5 * * * * *"]),
    st.sampled_from([None, "Europe/Berlin"]),
    **policies,
) | st.builds(Every, seconds=st.integers(60, 10**8), **policies)


@given(schedules)
def test_what_is_written_is_read(schedule) -> None:
    """As JSON has it, and the same text for equal schedules."""
    text = json.dumps(spec_of(schedule))
    read = schedule_of(json.loads(text))
    assert read == schedule
    assert json.dumps(spec_of(read)) == text


def test_the_form_stays() -> None:
    """Rows outlive releases: a change of this needs another version."""
    assert spec_of(Cron("0  7 * * *", "Europe/Berlin", jitter=1.5)) == {
        "version": 1, "kind": "cron", "expression": "0 7 * * *", "tz": "Europe/Berlin",
        "missed": "latest", "within": 86400, "overlap": "skip", "jitter": 1.5, "name": None,
    }  # fmt: skip
    assert spec_of(Every(minutes=5)) == {
        "version": 1, "kind": "every", "seconds": 300,
        "missed": "latest", "within": 86400, "overlap": "skip", "jitter": 0, "name": None,
    }  # fmt: skip
    assert schedule_of({"version": 1, "kind": "every", "seconds": 300}) == Every(minutes=5)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"version": 1, "kind": "cron", "expression": "@daily", "color": 1, "age": 2},
         "unknown here: age, color"),
        ({"version": 1, "kind": "every", "seconds": 5, "tz": "UTC"}, "unknown here: tz"),
        ({"version": 2, "kind": "every", "seconds": 5}, "version 2, and this release reads 1"),
        ({"version": True, "kind": "every", "seconds": 5}, "version True"),
        ({"kind": "every", "seconds": 5}, "version None"), ({}, "version None"),
        ({"version": 1, "kind": "solar"}, "kind 'solar'"),
        ({"version": 1, "kind": []}, "kind"),
        ({"version": 1, "kind": "cron"}, "no expression"),
        ({"version": 1, "kind": "every"}, "no seconds"),
        ({"version": 1, "kind": "every", "seconds": "5"}, "seconds='5'"),
        ({"version": 1, "kind": "every", "seconds": True}, "seconds=True"),
        ({"version": 1, "kind": "every", "seconds": 5, "within": None}, "within=None"),
        ({"version": 1, "kind": "cron", "expression": "61 * * * *"}, "the minute"),
        ({"version": 1, "kind": "cron", "expression": "@daily", "tz": "Mars"}, "no time zone"),
        ([1], "stored as an object"), ("x", "stored as an object"), (None, "stored as an object"),
    ],
)  # fmt: skip
def test_what_is_unknown_is_refused_by_its_name(spec: Any, said: str) -> None:
    """A release that does not know an option must not fire without it."""
    with pytest.raises(ConfigurationError, match=said):
        schedule_of(spec)
