"""What a running job may know about itself."""

import asyncio
import logging

import pytest

from amqpjobs import Snooze
from amqpjobs.errors import ConfigurationError, DecodeError
from amqpjobs.jobs.message.properties import Properties
from amqpjobs.jobs.message.trace_context import RemoteSpan
from amqpjobs.jobs.run_context import RunContext, plain_context

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"


def context(headers=None, properties=None):
    made = Properties(headers=headers or {}, type="resize")
    stopping = asyncio.Event()
    return RunContext("resize", "7", "photos", 2, 12.5, stopping, properties or (lambda: made))


def test_it_says_which_job_runs():
    """Name, id, queue, attempt, deadline."""
    made = context()
    assert (made.job, made.job_id, made.queue, made.attempt, made.deadline) == (
        "resize", "7", "photos", 2, 12.5
    )  # fmt: skip
    assert repr(made) == "<Context resize 7 attempt 2>"


def test_the_message_is_decoded_when_it_is_asked_for():
    """Most jobs never do."""

    def never():
        raise AssertionError

    made = context(properties=never)
    assert made.attempt == 2
    assert context().message.type == "resize"


def test_the_trace_comes_from_the_message():
    """W3C's `traceparent`; nothing if there is none, or if it is none."""
    assert context({"traceparent": PARENT}).trace_id == TRACE_ID
    assert context({"traceparent": PARENT}).trace_parent == PARENT
    assert context().trace_id is None
    assert context({"traceparent": "00-xyz"}).trace_id is None
    assert context({"traceparent": 5}).trace_id is None


def test_a_run_that_is_traced_names_its_own_span():
    """Its trace is another than the message's, where it only links there."""
    made = context({"traceparent": PARENT})
    made.span = RemoteSpan(5, 6, 1)
    assert made.trace_id == "5".zfill(32)
    keys = made.log_keys()
    assert (keys["trace_id"], keys["span_id"], keys["trace_flags"]) == (
        "5".zfill(32), "6".zfill(16), "01"
    )  # fmt: skip
    assert made.trace_parent == PARENT


def test_what_a_job_sends_goes_on_with_the_trace_of_its_message():
    """Or with the one that the worker has told its process."""
    headers = {"traceparent": PARENT, "tracestate": "a=b", "x-own": 1}
    made = context(headers)
    assert made.passed_on() == {"traceparent": PARENT, "tracestate": "a=b"}
    made.carrier = {"traceparent": "another"}
    assert made.passed_on() == {"traceparent": "another"}

    def broken():
        raise DecodeError("malformed")

    assert context(properties=broken).passed_on() == {}


def test_every_log_line_carries_the_job(caplog):
    """And keeps the keys of the call; one that has the name of a job's is kept beside it."""
    caplog.set_level(logging.INFO)
    context({"traceparent": PARENT}).log.info("half way", extra={"page": 3, "attempt": 9})
    record = vars(caplog.records[0])
    keys = {
        k: record[k]
        for k in ("job", "job_id", "queue", "attempt", "trace_id", "page", "extra_attempt")
    }
    assert keys == {
        "job": "resize", "job_id": "7", "queue": "photos", "attempt": 2, "trace_id": TRACE_ID,
        "page": 3, "extra_attempt": 9,
    }  # fmt: skip


def test_headers_that_cannot_be_read_cost_no_log_line(caplog):
    """A stranger's broken headers must not fail the job that logs."""

    def broken():
        raise DecodeError("malformed")

    caplog.set_level(logging.INFO)
    made = context(properties=broken)
    made.log.info("still here")
    assert caplog.messages == ["still here"]
    assert made.trace_id is None
    with pytest.raises(DecodeError):
        _ = made.message


async def test_progress_is_told_in_the_log(caplog):
    """As a fraction, with a few words."""
    caplog.set_level(logging.INFO)
    await context().progress(1 / 3, "uploading")
    record = caplog.records[0]
    assert (record.progress, record.detail, record.job_id) == (0.3333, "uploading", "7")


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan"), 40])
async def test_a_progress_that_is_no_fraction_is_refused(fraction):
    """Per cent, mostly."""
    with pytest.raises(ConfigurationError, match="from 0 to 1"):
        await context().progress(fraction)


@pytest.mark.parametrize("fraction", [0, 1, 0.5])
async def test_the_ends_of_the_progress_are_part_of_it(fraction, caplog):
    """Begun and done."""
    caplog.set_level(logging.INFO)
    await context().progress(fraction)
    assert caplog.records[0].progress == fraction


def test_a_plain_call_is_the_first_attempt_and_is_never_stopped():
    """There is no worker around it, no queue and no message."""
    made = plain_context("resize", "7")
    assert (made.queue, made.attempt, made.deadline) == ("", 1, None)
    assert not made.stopping.is_set()
    assert made.message == Properties()


def test_a_rate_limit_is_a_snooze():
    """To be raised; in a plain call it is an exception like any other."""
    verdict = plain_context("resize", "7").rate_limited(30)
    assert isinstance(verdict, Snooze)
    assert verdict.seconds == 30
    with pytest.raises(ConfigurationError, match=r"seconds from 0 to .*, not -1"):
        context().rate_limited(-1)


def test_nothing_can_be_put_on_it():
    """It is not a bag: middleware that has something to say uses a ContextVar."""
    with pytest.raises(AttributeError):
        context().session = 1
