"""What a job knows of the tick of its schedule."""

import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqpjobs import App, Context, Retry, Selection, Tick
from amqpjobs.broker.amqp.fields import decode_table, encode_table
from amqpjobs.errors import DecodeError
from amqpjobs.jobs.job import definition_of
from amqpjobs.jobs.message.copies import copied, renewed, replayed, retried, snoozed
from amqpjobs.jobs.message.failure import Failure
from amqpjobs.jobs.message.header_names import HEADER_TICK
from amqpjobs.jobs.message.headers import tick_header, tick_of
from amqpjobs.jobs.message.own_headers import own_headers
from amqpjobs.jobs.message.properties import Properties
from amqpjobs.jobs.message.tick import HOWS, LAST_DUE
from amqpjobs.jobs.run_context import RunContext, plain_context
from amqpjobs.worker.execution.protocol import Call, call_of, context_of
from tests.support.amqp import publish, stranger

TICK = Tick("report", 1_785_474_000.0, 1_785_387_600.0, "cron", "Europe/Berlin")
TABLE = tick_header(TICK)[HEADER_TICK]
FAILURE = Failure("failed", "boom")


def context(properties: Any) -> RunContext:
    return RunContext("report", "7", "reports", 1, None, None, properties)  # type: ignore[arg-type]


@given(
    st.builds(
        Tick,
        schedule=st.text("abc#.é ", min_size=1, max_size=600),
        due=st.integers(10**12, LAST_DUE - 1).map(lambda ms: ms / 1000),
        previous=st.none() | st.integers(0, 10**12).map(lambda ms: ms / 1000),
        how=st.sampled_from(sorted(HOWS)),
        tz=st.sampled_from(["UTC", "Europe/Berlin"]),
    )
)
def test_what_is_written_is_read(tick: Tick) -> None:
    """As AMQP carries it."""
    headers = decode_table(encode_table(tick_header(tick))[4:])
    assert tick_of(headers) == tick
    assert tick.due_time.timestamp() == pytest.approx(tick.due, abs=1e-3)


def test_a_job_reads_its_tick() -> None:
    """In the zone of the schedule."""
    tick = context(lambda: Properties(headers=tick_header(TICK))).tick
    assert tick == TICK
    assert tick is not None
    assert tick.due_time.isoformat() == "2026-07-31T07:00:00+02:00"
    assert replace(TICK, tz="UTC").due_time.isoformat() == "2026-07-31T05:00:00+00:00"


def test_other_jobs_have_none() -> None:
    """Nor have plain calls, and broken headers cost the tick only."""

    def broken() -> Properties:
        raise DecodeError("malformed")

    assert context(Properties).tick is None
    assert plain_context("report", "7").tick is None
    assert context(broken).tick is None


WRONG: list[Any] = [
    None, 7, "report", [], {}, {"due": 1}, [TABLE], b"x",
    *(
        {**TABLE, key: value}  # type: ignore[dict-item]
        for key, values in {
            "schedule": [None, "", 7, b"report", "x" * 601, "a\nb", "\x1b[1m"],
            "due": [None, "1", 1.5, -1, True, 2**62, float("nan"), [1]],
            "previous": ["1", 1.5, -1, True, 2**62, 1_785_474_000_001],
            "how": [None, "", "often", 7, ["cron"]],
            "tz": [None, "", 7, "Mars", "../../etc/passwd", "/etc/localtime", "x" * 10_000, "a\0b"],
        }.items()
        for value in values
    ),
]  # fmt: skip


@pytest.mark.parametrize("value", WRONG, ids=lambda value: repr(value)[:80])
def test_a_header_that_makes_no_sense_is_none(value: Any) -> None:
    """Anyone who may publish can write one."""
    assert tick_of({HEADER_TICK: value}) is None


@given(st.dictionaries(st.text(max_size=8), st.text() | st.integers() | st.none() | st.floats()))
def test_no_table_breaks_the_reading(table: dict[str, Any]) -> None:
    """Whatever it says."""
    assert tick_of({HEADER_TICK: table}) is None


def test_what_is_missing_is_as_by_default() -> None:
    """A program that writes one need not know zones; what it says beyond is ignored."""
    table = {"schedule": "report", "due": 60_000, "how": "run_now", "color": "red"}
    assert tick_of({HEADER_TICK: table}) == Tick("report", 60.0, None, "run_now")


def test_every_copy_keeps_it() -> None:
    """A retry, a snooze, a dead letter and its replay are for the same time."""
    original = Properties(headers=tick_header(TICK))
    for copy in (
        copied(original), copied(original, FAILURE), renewed(original), snoozed(original, 1.0),
        retried(original, FAILURE, 2, 1.0), replayed(copied(original, FAILURE)),
    ):  # fmt: skip
        assert tick_of(copy.headers) == TICK


def test_it_is_none_of_the_callers_headers() -> None:
    """So nothing that a job enqueues has its tick."""
    assert dict(own_headers(tick_header(TICK))) == {}


app = App("ticking", retry=Retry(attempts=2, first=1, jitter=False))
seen: list[Tick | None] = []
of_children: list[Tick | None] = []


@app.job(queue="ticks")
async def ticking(ctx: Context) -> None:
    seen.append(ctx.tick)
    await child.later()
    raise OSError("once more")


@app.job(queue="ticks")
async def child(ctx: Context) -> None:
    of_children.append(ctx.tick)


async def test_a_tick_survives_retries_and_the_dead_letters() -> None:
    """And what the job enqueues has none."""
    seen.clear()
    of_children.clear()
    async with app.testing(raise_errors=False) as t:
        async with stranger(t.url) as channel:
            headers: dict[str, Any] = tick_header(TICK)
            await publish(channel, "ticks", b"{}", type="ticking", headers=headers)
        await t.run_until_idle()
        await t.advance(2)
        assert seen == [TICK, TICK]
        replayed = await app.dead_letters("ticks").replay(Selection())
        assert replayed.done == 1
        await t.run_until_idle()
        assert seen == [TICK, TICK, TICK]
        assert of_children == [None, None, None]


async def test_garbage_in_the_header_stops_no_job() -> None:
    """It runs as if it had none."""
    seen.clear()
    of_children.clear()
    async with app.testing(raise_errors=False) as t:
        async with stranger(t.url) as channel:
            headers = {HEADER_TICK: {"schedule": 7, "due": "never"}}
            await publish(channel, "ticks", b"{}", type="ticking", headers=headers)
        await t.run_until_idle()
        assert seen == [None]


def test_a_process_of_its_own_is_told() -> None:
    """JSON carries it there, as it carries the progress."""
    properties = Properties(headers={**tick_header(TICK), "nested": {"a": 1}})
    call = call_of(definition_of(in_a_process), context(lambda: properties))
    told = Call(**json.loads(json.dumps(asdict(call))))
    inner = context_of(told, None)  # type: ignore[arg-type]
    assert inner.tick == TICK
    assert "nested" not in inner.headers


@app.job(queue="ticks", cpu=True)
def in_a_process(ctx: Context) -> None: ...
