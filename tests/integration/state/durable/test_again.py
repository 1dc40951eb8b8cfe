"""Ends of durable jobs that come a second time, since a connection or a worker was lost behind the
commit; and what a replay takes along."""

import asyncio
from typing import Any
from unittest.mock import patch

import pytest
from sqlalchemy import Connection, select

from amqpjobs import App, Context, Job, Retry
from amqpjobs.client.deadletters.selection import EVERYTHING
from amqpjobs.jobs.message.headers import family_of
from amqpjobs.jobs.outcome import Outcome, Released
from amqpjobs.state.durable.ends import finish, suspend
from amqpjobs.state.durable.rows import Owner, load, put
from amqpjobs.state.durable.values import (
    DONE,
    FAILED,
    SIGNAL,
    UNDOING,
    UNDONE,
    WAITING,
    Ended,
    Failed,
    Step,
    Told,
)
from amqpjobs.state.durable.waits import send_signal
from amqpjobs.state.memory import memory_of
from amqpjobs.state.outbox.rows import properties_in
from amqpjobs.state.store.tables import outbox
from amqpjobs.worker.durable import DurableJobs
from amqpjobs.worker.run import Run
from tests.support.durable_rows import APP, LOST, Jobs, message, suspended
from tests.support.waiting import until


async def test_an_end_whose_commit_was_not_heard_of_is_tried_again(jobs: Jobs) -> None:
    """It is found to be stored, so that its worker tells the parent of it, and cancels children;
    another end of that run is not."""
    begun = await jobs.begun("1")
    await jobs.called("1", begun.token, "a")
    owner = Owner(APP, "1", 0)
    for _ in range(2):
        told = await jobs.run(finish, owner, begun.token, Ended(b"1"), job="whole")
        assert (told.state, told.orphans, told.undo) == (DONE, ("1.a",), False)
    assert await jobs.run(finish, owner, begun.token, Ended(b"2")) is None
    assert await jobs.run(finish, owner, begun.token, LOST) is None
    assert await jobs.run(finish, owner, begun.token - 1, Ended(b"1")) is None
    assert await jobs.run(finish, owner, None, Ended(b"1")) is None


async def test_an_end_with_undo_that_is_tried_again_undoes_once(jobs: Jobs) -> None:
    """The job that takes a step back is sent by the first one."""
    token = await suspended(jobs, "1", "a", undo=True)
    await jobs.ended("1", "a", Ended(b"1"))
    for woken in (1, 0):
        told = await jobs.run(finish, Owner(APP, "1", 0), token, LOST)
        assert (told.state, told.woken, told.undo) == (UNDOING, woken, True)
    assert await jobs.sent("1.a.undo") == 1


async def test_the_undo_of_a_step_that_a_replay_took_along_is_heard_of(jobs: Jobs) -> None:
    """Its message was made in the epoch before: it says the one of now, or its end would count for
    nothing and the job would be undoing for ever."""
    token = await suspended(jobs, "1", "a", undo=True)
    await jobs.ended("1", "a", LOST)
    await jobs.run(finish, Owner(APP, "1", 0), token, LOST)
    assert await jobs.state("1") == FAILED
    await jobs.ended("1", "a", Ended(b"1"))  # its dead letter was replayed
    begun = await jobs.begun("1", 1)
    assert begun.steps["a"].state == DONE
    await jobs.run(finish, Owner(APP, "1", 1), begun.token, LOST)

    def sent(connection: Connection) -> bytes:
        query = select(outbox.c.properties).where(outbox.c.job_id == "1.a.undo")
        return bytes(connection.execute(query).scalar_one())

    family = family_of(properties_in(await jobs.first.run(sent)).headers)
    assert family is not None
    assert (family.parent, family.epoch, family.step, family.part) == ("1", 1, "a", "undo")


async def test_a_call_that_is_done_after_its_time_is_taken_back_with_the_others(
    jobs: Jobs,
) -> None:
    """Its job counted as failed, and did what it does all the same: in the middle of the undo it is
    taken back as well, once."""
    token = await suspended(jobs, "1", "a", "b", undo=True)
    await jobs.ended("1", "a", Ended(b"1"))
    await jobs.ended("1", "b", LOST)  # as `end_due` leaves it
    await jobs.run(finish, Owner(APP, "1", 0), token, LOST)
    for _ in range(2):
        assert (await jobs.ended("1", "b", Ended(b"2"))).woken == 0
    assert [await jobs.sent(f"1.{name}.undo") for name in "ab"] == [1, 0]
    assert (await jobs.ended("1", "a", Ended(b"null"), "undo")).woken == 1
    assert await jobs.state("1") == UNDOING
    assert await jobs.sent("1.b.undo") == 1
    await jobs.ended("1", "b", Ended(b"null"), "undo")
    assert await jobs.state("1") == UNDONE


async def test_a_signal_for_a_job_that_is_replayed_before_it_ever_began_is_kept(
    jobs: Jobs,
) -> None:
    """Such a job was refused before it began; it has no row yet that tells the epoch."""
    assert await jobs.run(send_signal, APP, "1", "go", b"1") == (True, False)
    begun = await jobs.begun("1", 1)
    assert begun.steps["go"].result == b"1"
    wanted = Step("stop", SIGNAL, 2, WAITING, awaited=True)
    owner = Owner(APP, "1", 1)
    assert await jobs.run(put, owner, begun.token, wanted)
    await jobs.run(suspend, owner, begun.token, ("stop",), message("1"))
    assert await jobs.run(send_signal, APP, "1", "stop", b"2") == (True, True)


async def test_a_job_waits_for_more_than_a_statement_has_variables(jobs: Jobs) -> None:
    """Of several hundred thousand names, all but one of which have ended."""
    begun = await jobs.begun("1")
    await jobs.called("1", begun.token, "😀'\\\"")
    names = (*(f"call {n}" for n in range(260_000)), "😀'\\\"")
    told = await jobs.run(suspend, Owner(APP, "1", 0), begun.token, names, message("1"))
    assert told == Told(woken=0)
    assert await jobs.steps("1") != {}
    assert (await jobs.first.run(load, Owner(APP, "1", 0), names)) == {}


async def test_a_run_whose_job_another_worker_has_ended_is_left_without_a_result() -> None:
    """Its steps are abandoned: the handler is left, and does not go on with nothing."""
    app, seen = App(APP, retry=Retry(attempts=1)), list[object]()

    @app.job(queue="orders", durable=True)
    async def waits(ctx: Context) -> None:
        async def take() -> None:
            seen.append("waits")
            seen.append(await ctx.signal("go", Any))

        busy = asyncio.get_running_loop().create_future()  # so that it is not suspended
        await asyncio.gather(take(), busy)

    async with app.testing(raise_errors=False) as t:
        handle = await waits.later()
        running = asyncio.create_task(t.run_until_idle())
        await until(lambda: seen == ["waits"], "it waits")
        store = await memory_of(app.client).store()
        owner = Owner(APP, handle.id, 0)

        async def written() -> bool:
            return bool(await store.run(load, owner))

        await until(written, "its step is written")
        cancelled = Ended(error=Failed("cancelled", "twice"), cancelled=True)
        assert await store.run(finish, owner, None, cancelled, store.now) is not None
        await asyncio.wait_for(running, 20)
        assert [run.outcome for run in t.runs(waits)] == ["superseded"]
    assert seen == ["waits"]


@pytest.mark.parametrize(
    ("how", "again"),
    [
        ({}, [2, 3]),
        ({"from_step": "items"}, [0, 1, 2, 3]),
        ({"from_step": "before"}, [0, 1, 2, 3]),
        ({"restart": True}, [0, 1, 2, 3]),
    ],
)
async def test_a_replay_goes_on_in_a_loop_behind_what_is_done(
    how: dict[str, Any], again: list[int]
) -> None:
    """The loop had not come to its end when its job failed for good."""
    app, seen, broken = App(APP, retry=Retry(attempts=1)), list[int](), [True]

    @app.job(queue="orders", durable=True)
    async def loops(ctx: Context) -> None:
        await ctx.step("before", int)
        async for item in ctx.each("items", range(4)):
            if item == 2 and broken:
                raise ValueError("not now")
            seen.append(item)

    async with app.testing(raise_errors=False) as t:
        await loops.later()
        await t.run_until_idle()
        assert seen == [0, 1]
        broken.clear()
        await app.dead_letters().replay(EVERYTHING, **how)
        await t.run_until_idle()
        assert seen == [0, 1, *again]


def make_app() -> tuple[App, Job[[], None, object], list[str]]:
    """An app whose durable job fails, and what takes a step of it back."""
    app, done = App("shop", retry=Retry(attempts=1)), list[str]()

    @app.job(queue="payments")
    async def refund() -> None:
        done.append("refund")

    @app.job(queue="orders", durable=True)
    async def order(ctx: Context) -> None:
        await ctx.step("pay", done.append, "pay", undo=refund.message())
        raise ValueError("none left")

    return app, order, done


async def test_a_worker_that_dies_behind_the_end_of_a_job_with_undo_loses_no_dead_letter() -> None:
    """Its delivery comes again, and finds the job undoing, or undone: it has failed as before."""
    app, order, done = make_app()
    end, died = DurableJobs.end, list[str]()

    async def ended(jobs: DurableJobs, run: Run, outcome: Outcome) -> Outcome:
        found = await end(jobs, run, outcome)
        if run.context is not None and run.context.job == order.name and len(died) < 2:
            died.append(found.word)
            return Released("it died")
        return found

    with patch.object(DurableJobs, "end", ended):
        async with app.testing(raise_errors=False) as t:
            await order.later()
            await t.run_until_idle()
            assert done == ["pay", "refund"]
            assert [letter.job for letter in t.dead()] == [order.name]
