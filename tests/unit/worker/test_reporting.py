"""One log line for each job, when it is over."""

import asyncio
import logging
import time
from uuid import UUID

import pytest

from amqpjobs.errors import DecodeError
from amqpjobs.jobs.message.failure import Failure
from amqpjobs.jobs.message.ids import new_job_id
from amqpjobs.jobs.message.properties import Properties
from amqpjobs.jobs.outcome import (
    Answered,
    Cancelled,
    Done,
    Expired,
    Parked,
    Rejected,
    Released,
    Retried,
    Snoozed,
    Superseded,
)
from amqpjobs.jobs.run_context import RunContext
from amqpjobs.worker.reporting import Observers, Reporting, waiting_time
from amqpjobs.worker.run import Run
from tests.unit.worker.hand import BROKEN_HEADER, BROKEN_TABLE, Hand

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
async def hand(caplog):
    caplog.set_level(logging.INFO)
    async with Hand() as made:
        yield made


def run_of(delivery, job_id="7", **properties):
    run = Run(delivery)
    values = Properties(**properties)
    run.context = RunContext("job", job_id, "queue", 2, None, asyncio.Event(), lambda: values)
    return run


def line(caplog):
    [record] = [r for r in caplog.records if r.name == "amqpjobs.worker"]
    return record


FAILURE = Failure("failed", "boom", exception="LookupError")


@pytest.mark.parametrize(
    ("outcome", "level", "keys"),
    [
        (Done(3), "INFO", {"outcome": "done"}),
        (
            Rejected(FAILURE, LookupError("boom")),
            "ERROR",
            {"outcome": "failed", "reason": "boom", "exception": "LookupError"},
        ),
        (Rejected(Failure("rejected", "no")), "ERROR", {"outcome": "rejected", "reason": "no"}),
        (Parked(Failure("unknown-job", "who")), "WARNING", {"outcome": "parked", "reason": "who"}),
        (Expired(5.0), "WARNING", {"outcome": "expired", "deadline": 5.0}),
        (
            Answered(FAILURE, LookupError("boom")),
            "WARNING",
            {"outcome": "failed", "reason": "boom", "exception": "LookupError", "answered": True},
        ),
        (Cancelled(), "INFO", {"outcome": "cancelled"}),
        (Released("stop"), "WARNING", {"outcome": "released", "reason": "stop"}),
    ],
)
async def test_every_outcome_is_one_line_with_its_keys(hand, caplog, outcome, level, keys):
    """Who, where, which run, how it ended, how long it took."""
    run = run_of(hand.give(), headers={"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01"})
    Reporting(arguments=False).report(run, outcome)
    record = line(caplog)
    assert record.levelname == level
    assert record.getMessage() == f"job {keys['outcome']}"
    said = vars(record)
    expected = {
        "job": "job", "job_id": "7", "queue": "queue", "attempt": 2, "trace_id": TRACE_ID, **keys
    }  # fmt: skip
    assert {k: said[k] for k in expected} == expected
    assert said["running_ms"] >= 0
    assert "arguments" not in said


async def test_only_a_handler_that_failed_shows_its_traceback(hand, caplog):
    """What did not fit has no place in the code worth showing."""
    Reporting(arguments=False).report(run_of(hand.give()), Rejected(FAILURE, LookupError("boom")))
    assert line(caplog).exc_info[1].args == ("boom",)
    caplog.clear()
    invalid = Rejected(Failure("invalid", "x: wrong"), DecodeError("x: wrong"))
    Reporting(arguments=False).report(run_of(hand.give()), invalid)
    assert line(caplog).exc_info is None


async def test_arguments_are_in_it_only_when_asked_for(hand, caplog):
    """They may hold personal data; and no more of them than a line can bear. A text is not cut
    inside of a character; of what is none its size and its beginning are shown."""
    for body, expected in (
        (b'"' + b"x" * 5000, '"' + "x" * 1999),
        (b'"' + "ä".encode() * 5000, '"' + "ä" * 999),
        (b'"\xff', "2 bytes: 22 ff"),
        (b"\x00" * 5000, "5000 bytes: " + "00 " * 32 + "..."),
    ):
        caplog.clear()
        Reporting(arguments=True).report(run_of(hand.give(body=body)), Done())
        assert line(caplog).arguments == expected


async def test_a_message_that_could_not_be_read_has_a_line_too(hand, caplog):
    """With what is known of it: its queue."""
    run = Run(hand.give(header=BROKEN_HEADER))
    Reporting(arguments=False).report(run, Rejected(Failure("undecodable", "malformed")))
    record = line(caplog)
    assert (record.queue, record.job, record.outcome) == ("queue", "", "undecodable")


async def test_headers_that_cannot_be_read_cost_no_line(hand, caplog):
    """The job was done; a stranger's broken headers are no bug of ours."""
    run = Run(hand.give(header=BROKEN_TABLE))
    run.context = RunContext(
        "job", "no uuid", "queue", 1, None, asyncio.Event(), run.delivery.properties
    )
    Reporting(arguments=False).report(run, Done())
    assert line(caplog).outcome == "done"


async def test_a_job_that_nobody_knows_is_named_as_the_message_names_it(hand, caplog):
    """So that somebody finds out whose it is."""
    run = Run(hand.give(type="resize", message_id="9"))
    Reporting(arguments=False).report(run, Parked(Failure("unknown-job", "who")))
    assert (line(caplog).job, line(caplog).job_id) == ("resize", "9")


async def test_a_level_that_nobody_listens_to_costs_nothing(hand, caplog):
    """Not even the decoding of headers."""
    caplog.set_level(logging.ERROR, logger="amqpjobs.worker")

    def never():
        raise AssertionError

    run = Run(hand.give())
    run.context = RunContext("job", "7", "queue", 1, None, asyncio.Event(), never)
    Reporting(arguments=False).report(run, Done())
    assert caplog.records == []


async def test_the_waiting_time_is_told_by_the_id(hand):
    """It is a UUID with its time in it."""
    made = UUID(new_job_id())
    early = UUID(int=made.int - (5000 << 80))
    waited = waiting_time(run_of(hand.give(), str(early)), 1.0)
    assert waited == pytest.approx(4.0, abs=1.0)


async def test_the_waiting_time_is_told_by_the_timestamp_of_a_strangers_message(hand):
    """In whole seconds."""
    run = run_of(hand.give(timestamp=int(time.time()) - 100), "a stranger's id")
    assert waiting_time(run, 0.0) == pytest.approx(100, abs=3)


async def test_clocks_that_differ_give_no_negative_waiting_time(hand):
    """The publisher's is ahead of ours."""
    run = run_of(hand.give(timestamp=int(time.time()) + 1000), "x")
    assert waiting_time(run, 0.0) == 0.0


@pytest.mark.parametrize(
    "job_id",
    [
        "",
        "7",
        "x" * 36,
        "-" * 36,
        "zzzzzzzz-zzzz-7zzz-zzzz-zzzzzzzzzzzz",
        "+0000000-0000-7" + "0" * 21,
    ],
)
async def test_ids_of_strangers_may_be_anything(hand, job_id, caplog):
    """The line comes out, with a waiting time or without."""
    run = run_of(hand.give(), job_id)
    waited = waiting_time(run, 0.0)
    assert waited is None or waited >= 0
    Reporting(arguments=False).report(run, Done())
    assert line(caplog).job_id == job_id


@pytest.mark.parametrize("timestamp", [0, 2**63, 2**64 - 1, 1_700_000_000_000])
async def test_timestamps_of_strangers_may_be_anything(hand, timestamp, caplog):
    """Milliseconds, mostly, from clients that misread the specification."""
    Reporting(arguments=False).report(run_of(hand.give(timestamp=timestamp), "x"), Done())
    assert line(caplog).waited_ms >= 0


@pytest.mark.parametrize("level", [logging.INFO, logging.ERROR])
async def test_observers_are_told_once_of_each_end_whatever_the_level(hand, caplog, level):
    """What counts jobs does not depend on what is logged."""
    caplog.set_level(level, logger="amqpjobs.worker")
    seen = []
    line = Reporting(arguments=False).report
    observers = Observers((line, lambda *what: seen.append(what)))
    run, outcome = run_of(hand.give()), Done()
    observers.tell(run, outcome)
    assert seen == [(run, outcome)]
    assert len(caplog.records) == (level == logging.INFO)


async def test_an_observer_that_fails_costs_neither_the_line_nor_the_next_observer(hand, caplog):
    """Watching must not harm what is watched."""
    seen = []

    def fails(run, outcome):
        raise LookupError("boom")

    line = Reporting(arguments=False).report
    observers = Observers((fails, line, lambda run, outcome: seen.append(outcome)))
    observers.tell(run_of(hand.give()), Done())
    assert seen == [Done()]
    assert [r.getMessage() for r in caplog.records] == ["observer of jobs failed", "job done"]


@pytest.mark.parametrize(
    "outcome",
    [
        Done(3), Rejected(FAILURE), Answered(FAILURE), Retried(FAILURE, 1.0), Snoozed(9.0),
        Parked(Failure("unknown-job", "who")), Expired(5.0), Superseded(), Cancelled(),
        Released("stop"),
    ],
)  # fmt: skip
async def test_the_word_for_an_outcome_is_the_one_in_its_line(hand, caplog, outcome):
    """Spans and metrics call it what the log does."""
    Reporting(arguments=False).report(run_of(hand.give()), outcome)
    assert line(caplog).outcome == outcome.word
