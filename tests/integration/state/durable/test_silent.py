"""Jobs that nothing is heard of: they are sent again under the same id, then given up."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, update

from amqpjobs import App, Context, Retry, Snooze
from amqpjobs.client.prepared import Prepared
from amqpjobs.errors import JobFailed
from amqpjobs.jobs.message.family import Family, family_table
from amqpjobs.jobs.message.header_names import HEADER_PARENT
from amqpjobs.jobs.message.properties import Properties
from amqpjobs.state.durable.ends import finish, suspend
from amqpjobs.state.durable.rows import Owner
from amqpjobs.state.durable.silent import (
    LOST,
    MOST_SENDS,
    Silent,
    beat,
    hear,
    next_silent,
    put_off,
    send_silent,
    silent_jobs,
)
from amqpjobs.state.durable.supervising import Supervises
from amqpjobs.state.durable.values import (
    FAILED,
    RUNNING,
    UNDO_FAILED,
    UNDOING,
    Ended,
)
from amqpjobs.state.memory import memory_of
from amqpjobs.state.store.tables import durable, steps
from tests.support.durable_rows import APP, Jobs, message, suspended
from tests.support.durable_rows import LOST as FAILURE

DAY = 86_400.0
A = Silent(Owner(APP, "1", 0), "a", "call", "parts")
WHOLE = Silent(Owner(APP, "1", 0), None, "job", "parts")


async def silent(jobs: Jobs) -> list[Silent]:
    """Those of two days."""

    def look(connection: Connection, now: Any) -> list[Silent]:
        return silent_jobs(connection, APP, now, DAY, 100)

    found = await jobs.run(look)
    assert isinstance(found, list)
    return found


async def send(jobs: Jobs, which: Silent) -> Any:
    """What the housekeeping does about one."""

    def again(connection: Connection, now: Any) -> Any:
        return send_silent(connection, which, now, DAY)

    return await jobs.run(again)


async def two_days(jobs: Jobs) -> None:
    """Let the time pass, and have all sent that was to be."""
    await jobs.relayed()

    def pass_(connection: Connection, now: Any) -> None:
        connection.execute(update(steps).values(sent_at=steps.c.sent_at - 2 * DAY))
        connection.execute(update(durable).values(changed_at=durable.c.changed_at - 2 * DAY))

    await jobs.run(pass_)


async def test_a_child_is_sent_again_so_often_and_then_it_has_failed(jobs: Jobs) -> None:
    """Its parent is woken, and finds why."""
    await suspended(jobs, "1", "a", send=True)
    assert await silent(jobs) == []
    for _ in range(MOST_SENDS - 1):
        await two_days(jobs)
        assert await silent(jobs) == [A]
        assert (await send(jobs, A)).woken == 1
        assert await jobs.sent("1.a") == 1
        assert await silent(jobs) == []
        assert await send(jobs, A) is None
    await two_days(jobs)
    told = await send(jobs, A)
    assert (told.woken, told.orphans, told.state) == (1, ("1.a",), LOST)
    assert (await jobs.sent("1"), await jobs.sent("1.a")) == (1, 0)
    step = (await jobs.steps("1"))["a"]
    assert step.state == FAILED
    assert step.error is not None
    assert (step.error.reason, step.error.job_id) == (LOST, "1.a")


async def test_several_processes_send_it_once(jobs: Jobs) -> None:
    """By the row of its parent."""

    def again(connection: Connection, now: Any) -> Any:
        return send_silent(connection, A, now, DAY)

    await suspended(jobs, "1", "a", send=True)
    for _ in range(MOST_SENDS - 1):
        await two_days(jobs)
        told = await jobs.both((again,), (again,))
        assert sum(each is not None for each in told) == 1
        assert await jobs.sent("1.a") == 1


async def test_a_child_that_has_ended_is_not_silent(jobs: Jobs) -> None:
    """Nor is one that ends just before it is sent again."""
    await suspended(jobs, "1", "a", send=True)
    await two_days(jobs)
    assert await silent(jobs) == [A]
    await jobs.ended("1", "a", Ended(b"1"))
    assert await silent(jobs) == []
    assert await send(jobs, A) is None


async def test_a_child_that_is_to_be_sent_is_not_lost(jobs: Jobs) -> None:
    """However long it waits in the outbox."""
    await suspended(jobs, "1", "a", send=True)

    def pass_(connection: Connection, now: Any) -> None:
        connection.execute(update(steps).values(sent_at=steps.c.sent_at - 2 * DAY))

    await jobs.run(pass_)
    assert await silent(jobs) == []
    await jobs.relayed()
    assert await silent(jobs) == [A]


async def test_time_before_a_retry_is_no_silence(jobs: Jobs) -> None:
    """It is counted from then."""
    await suspended(jobs, "1", "a", send=True)
    await two_days(jobs)
    later = await jobs.first.time() + 100

    def retried(connection: Connection, now: Any) -> float | None:
        hear(connection, Owner(APP, "1", 0), "a", later, now)
        return next_silent(connection, APP, now, DAY)

    assert await jobs.run(retried) == pytest.approx(later + DAY, abs=1)
    assert await silent(jobs) == []


async def test_a_child_that_is_durable_looks_after_itself(jobs: Jobs) -> None:
    """While it is a row, or runs: but not one that had just begun when its message was lost."""
    await suspended(jobs, "1", "a", send=True)
    begun = await jobs.begun("1.a")
    child = Owner(APP, "1.a", 0)
    await two_days(jobs)
    assert await silent(jobs) == [A]
    assert await jobs.run(suspend, child, begun.token, (), message("1.a")) is not None
    await two_days(jobs)
    assert await silent(jobs) == [Silent(child, None, "job", "parts")]


async def test_a_job_that_was_woken_and_does_not_run_is_sent_again(jobs: Jobs) -> None:
    """So often; then it has failed, and whoever waits for it is told."""
    await suspended(jobs, "above", "1", send=True)
    await jobs.relayed()
    begun = await jobs.begun("1", parent_id="above", parent_step="1")
    owner = Owner(APP, "1", 0)
    part = Properties(
        message_id="1", type="whole", headers={HEADER_PARENT: family_table(Family("above", 0, "1"))}
    )
    again = Prepared("1", "whole", "parts", part, b"{}")

    def called(connection: Connection, now: Any) -> None:
        connection.execute(update(steps).values(child_id="1"))

    await jobs.run(called)
    await jobs.run(suspend, owner, begun.token, (), again)
    assert await jobs.state("1") == RUNNING
    for _ in range(MOST_SENDS - 1):
        await two_days(jobs)
        assert await silent(jobs) == [WHOLE]
        assert (await send(jobs, WHOLE)).woken == 1
        assert await jobs.sent("1") == 1
    await two_days(jobs)
    assert (await send(jobs, WHOLE)).state == LOST
    assert (await jobs.state("1"), await jobs.state("above")) == (FAILED, RUNNING)
    assert await jobs.sent("above") == 1


async def test_a_run_that_is_alive_is_not_silent(jobs: Jobs) -> None:
    """Its process says so; of an older run of the same job that says nothing."""
    token = await suspended(jobs, "1", "a")
    await jobs.ended("1", "a", Ended(b"1"))
    begun = await jobs.begun("1")

    def alive(connection: Connection, now: Any, token: int = begun.token) -> None:
        beat(connection, APP, [("1", token)], now)

    await two_days(jobs)
    await jobs.run(lambda connection, now: alive(connection, now, token))
    assert await silent(jobs) == [WHOLE]
    await jobs.run(alive)
    assert await silent(jobs) == []


async def test_an_undo_is_sent_again_and_then_it_has_failed(jobs: Jobs) -> None:
    """Loudly: the job stays, and its undo can be tried again."""
    token = await suspended(jobs, "1", "a", undo=True)
    await jobs.ended("1", "a", Ended(b"1"))
    await jobs.run(finish, Owner(APP, "1", 0), token, FAILURE)
    assert await jobs.state("1") == UNDOING
    lost = Silent(Owner(APP, "1", 0), "a", "undo", "parts")
    for _ in range(MOST_SENDS - 1):
        await two_days(jobs)
        assert await silent(jobs) == [lost]
        assert (await send(jobs, lost)).woken == 1
        assert await jobs.sent("1.a.undo") == 1
    await two_days(jobs)
    assert (await send(jobs, lost)).state == LOST
    assert await jobs.state("1") == UNDO_FAILED


async def test_what_is_put_off_is_looked_at_again_after_the_same_time(jobs: Jobs) -> None:
    """And was not sent."""
    await suspended(jobs, "1", "a", send=True)
    await two_days(jobs)
    await jobs.run(put_off, [A])
    assert await silent(jobs) == []
    assert await jobs.sent("1.a") == 0


def an_app() -> tuple[App, Any, Any, list[str]]:
    """A durable job that calls another, which begins after an hour."""
    app, done = App("shop"), list[str]()

    @app.job(queue="parts", retry=Retry(attempts=1))
    async def part(word: str) -> str:
        done.append(word)
        if len(done) == 1 and word == "snooze":
            raise Snooze(timedelta(days=3))
        return word.upper()

    @app.job(queue="wholes", durable=True, keep_result=True)
    async def whole(ctx: Context, word: str) -> str:
        call = part.with_options(delay=timedelta(hours=1)).message(word)
        try:
            return await ctx.call("part", call)
        except JobFailed as error:
            return error.error

    return app, whole, part, done


def lose(t: Any) -> int:
    """Purge the queues of delays: how many messages there were."""
    queues = t.broker.virtual_host.queues.values()
    return sum(queue.purge() for queue in queues if queue.name.startswith("amqpjobs.delay"))


async def test_a_lost_message_is_made_up_for() -> None:
    """In the kit: after an hour and a day, with a warning."""
    app, whole, _, done = an_app()
    async with app.testing() as t:
        handle = await whole.later("tea")
        await t.run_until_idle()
        assert lose(t) == 1
        await t.advance(timedelta(hours=2))
        assert done == []
        await t.advance(timedelta(days=1))
        assert done == ["tea"]
        assert await handle.result() == "TEA"


async def test_a_message_that_is_only_late_is_not_sent_twice() -> None:
    """A part that snoozes for longer than a part may be silent runs when it is due, once."""
    app, whole, _, done = an_app()
    async with app.testing() as t:
        await whole.later("snooze")
        await t.run_until_idle()
        await t.advance(timedelta(days=5))
        assert done == ["snooze", "snooze"]
        assert t.results(whole) == ["SNOOZE"]


async def test_a_message_that_may_wait_in_its_queue_is_not_sent_again() -> None:
    """As long as anything is in that queue, or is parked beside it."""
    app, _, part, _ = an_app()
    async with app.testing(raise_errors=False) as t:
        store = await memory_of(app.client).store()
        jobs, supervises = Jobs(store, store), Supervises(memory_of(app.client))
        queues = t.broker.virtual_host.queues
        await suspended(jobs, "1", "a", send=True)
        await part.later("tea")
        await two_days(jobs)
        assert await supervises.turn()
        assert await jobs.sent("1.a") == 0
        assert queues["parts"].purge() == 1
        await app.enqueue(replace(part.message("tea"), job="unknown"))
        await t.run_until_idle()
        await two_days(jobs)
        assert await supervises.turn()
        assert await jobs.sent("1.a") == 0
        assert queues["parts.parked"].purge() == 1
        await two_days(jobs)
        assert await supervises.turn()
        assert await jobs.sent("1.a") == 1
