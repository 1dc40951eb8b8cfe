"""A log line for people: what is in which column, and what is left out."""

import io
import logging
import re
from typing import Any

import pytest

from amqpjobs.telemetry.logs import ConsoleFormatter, configure_logs
from amqpjobs.telemetry.terminal import has_colour, is_terminal
from tests.support.logs import logging_of_its_own

ID = "01a2237f-675b-7454-8396-b49e2ba7105e"
RUN = {
    "job": "send_receipt", "job_id": ID, "queue": "receipts", "attempt": 1, "worker": "host:9197",
    "waited_ms": 12.0, "running_ms": 2.2, "trace_id": "0" * 32,
}  # fmt: skip


def line(
    event: str, name: str = "amqpjobs.worker", level: int = logging.INFO, *,
    verbose: bool = False, colour: bool = False, **keys: Any,
) -> str:  # fmt: skip
    record = logging.makeLogRecord({
        "name": name, "msg": event, "levelno": level, "levelname": logging.getLevelName(level),
        **keys,
    })  # fmt: skip
    text = ConsoleFormatter(colour=colour, verbose=verbose).format(record)
    assert re.match(r"\d\d:\d\d:\d\d ", text)
    return text[9:]


def run_line(outcome: str, level: int = logging.INFO, **keys: Any) -> str:
    return line(f"job {outcome}", level=level, **{**RUN, "outcome": outcome, **keys})


def test_a_run_is_one_short_line() -> None:
    """Which job, what became of it, how long, and the part of its id that tells it from others."""
    assert run_line("done") == ("info     send_receipt done                      2.2 ms 2ba7105e")


def test_ids_of_the_same_minute_differ() -> None:
    """Their beginnings do not: version 7 begins with the time."""
    first, second = (run_line("done", job_id=ID[:-4] + end) for end in ("0001", "0002"))
    assert first != second


@pytest.mark.parametrize(
    ("outcome", "keys", "why"),
    [
        (
            "retried",
            {"reason": "no\naddress", "exception": "ValueError", "pause_s": 3.4, "attempt": 2,
             "at": "/srv/app/shop.py:18 send_receipt"},
            "ValueError: no address; at app/shop.py:18 send_receipt; again in 3.4 s; attempt 2",
        ),
        ("snoozed", {"pause_s": 125}, "again in 2 min 5 s"),
        ("rejected", {"reason": "no such order"}, "no such order"),
        ("failed", {"reason": "", "exception": "KeyError"}, "KeyError"),
        ("failed", {"reason": "x", "answered": True}, "x; the caller got the error"),
        ("expired", {"deadline": 0}, "d "),
        ("done", {"stale": True}, "its channel was lost, so it runs again"),
        ("done", {"waited_ms": 65_000}, "waited 1 min 5 s"),
        ("done", {"waited_ms": 65_000, "attempt": 2, "x": 1}, "attempt 2 x=1"),
        ("done", {"arguments": "[7]"}, "arguments=[7]"),
    ],
)  # fmt: skip
def test_what_is_not_as_usual_says_why(outcome: str, keys: dict[str, Any], why: str) -> None:
    """In words, behind the id."""
    _, _, rest = run_line(outcome, **keys).partition("2ba7105e ")
    assert why in rest
    assert "worker" not in rest


def test_what_failed_for_good_has_its_whole_id() -> None:
    """``dead show`` takes it."""
    assert f" {ID} ValueError: no" in run_line(
        "failed", logging.ERROR, reason="no", exception="ValueError"
    )


def test_a_message_that_could_not_be_read_has_a_line() -> None:
    """Its job and its id are not known."""
    found = line("job undecodable", queue="q", job="", outcome="undecodable", reason="not JSON")
    assert found == f"info     {'job undecodable':36} not JSON"


def test_a_line_inside_of_a_job_names_it() -> None:
    """With what the program added."""
    found = line("writing it", "shop", job="send", job_id=ID, queue="q", attempt=1, order=7)
    assert found == f"info     {'send: writing it':36}          2ba7105e order=7"


def test_a_line_outside_of_a_job_has_its_keys() -> None:
    """Lists without brackets."""
    found = line("worker is ready", queues=["a", "b"], queue="a", concurrency=20)
    assert found == f"info     {'worker is ready':36} queues=a,b queue=a concurrency=20"


def test_verbose_shows_all_that_json_has() -> None:
    """With the logger."""
    found = line("job done", verbose=True, **RUN, outcome="done")
    for key, value in {**RUN, "outcome": "done", "logger": "amqpjobs.worker"}.items():
        assert f"{key}={value}" in found


def test_colour_is_for_what_one_must_look_at() -> None:
    """A screen full of colours says nothing. The columns are the same."""
    assert "\x1b" not in run_line("done", colour=True)
    for level, code in ((logging.WARNING, "33"), (logging.ERROR, "31")):
        coloured = run_line("retried", level, colour=True)
        assert coloured.startswith(f"\x1b[{code}m")
        assert coloured.count("\x1b") == 2
        assert re.sub(r"\x1b\[\d*m", "", coloured) == run_line("retried", level)


def test_no_key_of_a_run_acts_on_a_terminal() -> None:
    """Strangers choose ids, types and messages."""
    hostile = "\x1b[2J\n\x9b"
    found = run_line("failed", job=hostile, job_id=hostile, reason=hostile, at=hostile)
    assert found.isprintable()


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


class OnlyWrite:
    """What some programs put in place of stdout."""

    def write(self, text: str) -> int:
        return len(text)


@pytest.mark.parametrize(
    ("variables", "stream", "colour"),
    [
        ({}, Screen(), True),
        ({}, io.StringIO(), False),
        ({}, OnlyWrite(), False),
        ({}, None, False),
        ({"TERM": "dumb"}, Screen(), False),
        ({"NO_COLOR": "1"}, Screen(), False),
        ({"NO_COLOR": ""}, Screen(), True),
        ({"FORCE_COLOR": "1"}, io.StringIO(), True),
        ({"FORCE_COLOR": "1", "TERM": "dumb"}, Screen(), True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, Screen(), False),
    ],
)
def test_colour_follows_the_environment_and_the_stream(
    variables: dict[str, str], stream: Any, colour: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NO_COLOR before FORCE_COLOR before TERM, as Python has it."""
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert has_colour(stream) is colour


def test_a_closed_stream_is_no_terminal() -> None:
    """It raises ValueError."""
    stream = io.StringIO()
    stream.close()
    assert not is_terminal(stream)


def test_a_form_without_a_terminal_has_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    """``AMQPJOBS_LOG_FORMAT=console`` into a file."""
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    stream = io.StringIO()
    with logging_of_its_own() as root:
        configure_logs("info", "console", stream=stream)
        root.error("bad")
    assert stream.getvalue().endswith("error    bad\n")
