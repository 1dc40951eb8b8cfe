"""The rows of durable jobs, by transactions that really run at once, on both databases: each end
counts once, and each job is woken once."""

from typing import Any

import pytest
from sqlalchemy import Connection, update

from amqpjobs.jobs.message.family import Family
from amqpjobs.jobs.message.properties import Properties
from amqpjobs.state.durable.ends import end_step, finish, suspend
from amqpjobs.state.durable.rows import Beginning, NotBegun, Owner, begin, put
from amqpjobs.state.durable.undoing import undo_job
from amqpjobs.state.durable.values import (
    CALL,
    DONE,
    FAILED,
    RUNNING,
    SIGNAL,
    SLEEP,
    STEP,
    SUSPENDED,
    UNDO_FAILED,
    UNDOING,
    UNDONE,
    WAITING,
    Ended,
    Step,
    Told,
    Undo,
)
from amqpjobs.state.durable.waits import end_due, send_signal
from amqpjobs.state.store.tables import durable
from tests.support.durable_rows import APP, LOST, Jobs, message, suspended

ROUNDS = 200


@pytest.mark.timeout(120)
async def test_two_last_children_that_end_at_once_wake_their_parent_once(jobs: Jobs) -> None:
    """In every round, and whichever of both commits first."""
    for n in range(ROUNDS):
        job_id = str(n)
        await suspended(jobs, job_id, "a", "b")
        one, other = (
            (end_step, APP, Family(job_id, 0, name), f"{job_id}.{name}", Ended(b"1"))
            for name in "ab"
        )
        first, second = await jobs.both(one, other)
        assert first.woken + second.woken == 1, f"round {n}"
        assert await jobs.sent(job_id) == 1
    assert await jobs.state("0") == RUNNING


@pytest.mark.timeout(120)
async def test_a_child_that_ends_while_its_parent_suspends_wakes_it_once(jobs: Jobs) -> None:
    """It is sent again once: by whichever of both commits last."""
    for n in range(ROUNDS):
        job_id = str(n)
        begun = await jobs.begun(job_id)
        await jobs.called(job_id, begun.token, "a")
        owner = Owner(APP, job_id, 0)
        told = await jobs.both(
            (suspend, owner, begun.token, ("a",), message(job_id)),
            (end_step, APP, Family(job_id, 0, "a"), f"{job_id}.a", Ended(b"1")),
        )
        assert sum(each.woken for each in told) == 1, f"round {n}"
        assert await jobs.sent(job_id) == 1
        assert await jobs.state(job_id) == RUNNING


async def test_a_duplicate_of_a_child_ends_nothing_twice(jobs: Jobs) -> None:
    """Two workers that have the same child: the first end counts, and wakes once."""
    for n in range(ROUNDS // 4):
        job_id = str(n)
        await suspended(jobs, job_id, "a")
        ends = [
            (end_step, APP, Family(job_id, 0, "a"), f"{job_id}.a", Ended(result))
            for result in (b"1", b"2")
        ]
        told = await jobs.both(*ends)
        assert sorted(each.woken for each in told) == [0, 1]
        assert await jobs.sent(job_id) == 1
        won = b"1" if told[0].woken else b"2"
        assert (await jobs.steps(job_id))["a"].result == won


async def test_a_time_that_is_over_and_an_end_at_once_are_one_end(jobs: Jobs) -> None:
    """The housekeeping and the worker of the child, in whatever order: woken once."""
    for n in range(ROUNDS // 4):
        job_id = str(n)
        begun = await jobs.begun(job_id)
        owner = Owner(APP, job_id, 0)
        step = Step("a", CALL, 1, WAITING, awaited=True, child="part", child_id=f"{job_id}.a")
        assert await jobs.run(put, owner, begun.token, step, wait=-1.0)
        await jobs.run(suspend, owner, begun.token, ("a",), message(job_id))

        def due(connection: Connection, now: Any) -> int:
            return end_due(connection, APP, now, 100)[2]

        woken, told = await jobs.both(
            (due,), (end_step, APP, Family(job_id, 0, "a"), f"{job_id}.a", Ended(b"1"))
        )
        woken += await jobs.run(due)
        assert woken + told.woken == 1, f"round {n}"
        assert await jobs.sent(job_id) == 1


async def test_a_newer_run_takes_over(jobs: Jobs) -> None:
    """What the older one writes changes nothing: no step, no end, no waiting."""
    older, newer = await jobs.begun("1"), await jobs.begun("1")
    owner = Owner(APP, "1", 0)
    assert newer.token > older.token
    assert not await jobs.run(put, owner, older.token, Step("a", STEP, 1, result=b"1"))
    assert await jobs.run(suspend, owner, older.token, (), message("1")) is None
    assert await jobs.run(finish, owner, older.token, Ended(b"1")) is None
    assert await jobs.run(put, owner, newer.token, Step("a", STEP, 1, result=b"2"))
    assert (await jobs.steps("1"))["a"].result == b"2"
    assert (await jobs.run(finish, owner, newer.token, Ended(b"3"))).state == DONE


async def test_of_two_runs_that_begin_at_once_one_goes_on(jobs: Jobs) -> None:
    """They have different tokens, and the smaller one is worth nothing."""
    for n in range(ROUNDS // 4):
        owner = Owner(APP, str(n), 0)
        beginning = Beginning(owner, "whole", "wholes")
        both = await jobs.both((begin, beginning), (begin, beginning))
        tokens = sorted(each.token for each in both)
        assert tokens == [1, 2]
        told = [await jobs.run(finish, owner, token, Ended(b"1")) for token in tokens]
        assert told[0] is None
        assert told[1].state == DONE


async def test_an_end_counts_once(jobs: Jobs) -> None:
    """Also of two processes that have ended it at once; a run that comes later finds the result."""
    for n in range(ROUNDS // 4):
        owner = Owner(APP, str(n), 0)
        begun = await jobs.begun(str(n))
        told = await jobs.both(
            (finish, owner, begun.token, Ended(b"1")), (finish, owner, begun.token, LOST)
        )
        assert sum(each is not None for each in told) == 1
        again = await jobs.run(begin, Beginning(owner, "whole", "wholes"))
        assert isinstance(again, NotBegun)
        assert again.state == (DONE if told[0] is not None else FAILED)


async def test_a_signal_that_comes_before_its_job_is_kept(jobs: Jobs) -> None:
    """The first of its name; it is there when the job begins."""
    assert await jobs.run(send_signal, APP, "1", "go", b'"first"') == (True, False)
    assert await jobs.run(send_signal, APP, "1", "go", b'"second"') == (False, False)
    begun = await jobs.begun("1")
    assert begun.steps["go"].result == b'"first"'


async def test_a_signal_wakes_its_job_once(jobs: Jobs) -> None:
    """Two that come at once, of which one is taken; and none for a job that has ended."""
    for n in range(ROUNDS // 4):
        job_id, owner = str(n), Owner(APP, str(n), 0)
        begun = await jobs.begun(job_id)
        step = Step("go", SIGNAL, 1, WAITING, awaited=True)
        assert await jobs.run(put, owner, begun.token, step)
        await jobs.run(suspend, owner, begun.token, ("go",), message(job_id))
        taken = await jobs.both(
            (send_signal, APP, job_id, "go", b"1"), (send_signal, APP, job_id, "go", b"2")
        )
        assert sorted(taken) == [(False, False), (True, True)]
        assert await jobs.sent(job_id) == 1
    await jobs.run(finish, owner, (await jobs.begun(job_id)).token, Ended(b"1"))
    assert await jobs.run(send_signal, APP, job_id, "stop", b"1") == (False, False)


async def test_a_signal_that_came_early_is_not_waited_for(jobs: Jobs) -> None:
    """The run that would wait for it finds it."""
    begun = await jobs.begun("1")
    assert (await jobs.run(send_signal, APP, "1", "go", b"7"))[0]
    step = Step("go", SIGNAL, 1, WAITING, awaited=True)
    assert not await jobs.run(put, Owner(APP, "1", 0), begun.token, step)
    assert (await jobs.steps("1"))["go"].result == b"7"


async def test_undo_goes_back_in_the_order_of_completion(jobs: Jobs) -> None:
    """One after the other, the last one first; in the end all of it is undone."""
    token = await suspended(jobs, "1", "a", "b", "c", undo=True)
    for name in ("b", "c", "a"):
        await jobs.ended("1", name, Ended(b"1"))
    owner = Owner(APP, "1", 0)
    assert (await jobs.run(finish, owner, token, LOST)).state == UNDOING
    for name in ("a", "c", "b"):
        assert [await jobs.sent(f"1.{each}.undo") for each in "abc"].count(1) >= 1
        assert await jobs.sent(f"1.{name}.undo") == 1
        assert await jobs.state("1") == UNDOING
        assert (await jobs.ended("1", name, Ended(b"null"), "undo")).woken == (name != "b")
        # A duplicate of it is worth nothing.
        assert (await jobs.ended("1", name, Ended(b"null"), "undo")).woken == 0
    assert await jobs.state("1") == UNDONE


async def test_undo_waits_for_a_child_that_still_runs(jobs: Jobs) -> None:
    """It may be done before it hears that it is cancelled: then it is taken back first."""
    token = await suspended(jobs, "1", "a", "b", undo=True)
    await jobs.ended("1", "a", Ended(b"1"))
    told = await jobs.run(finish, Owner(APP, "1", 0), token, LOST)
    assert (told.state, told.orphans, told.woken) == (UNDOING, ("1.b",), 0)
    assert (await jobs.ended("1", "b", Ended(b"2"))).woken == 1
    assert [await jobs.sent(f"1.{name}.undo") for name in "ab"] == [0, 1]
    await jobs.ended("1", "b", Ended(b"null"), "undo")
    await jobs.ended("1", "a", Ended(b"null"), "undo")
    assert await jobs.state("1") == UNDONE


async def test_what_has_failed_is_not_undone(jobs: Jobs) -> None:
    """Of two children the one that is done is."""
    token = await suspended(jobs, "1", "a", "b", undo=True)
    await jobs.ended("1", "a", Ended(b"1"))
    await jobs.ended("1", "b", LOST)
    assert (await jobs.run(finish, Owner(APP, "1", 0), token, LOST)).woken == 1
    await jobs.ended("1", "a", Ended(b"null"), "undo")
    assert await jobs.state("1") == UNDONE
    assert await jobs.sent("1.b.undo") == 0


async def test_an_undo_that_has_failed_is_tried_again(jobs: Jobs) -> None:
    """By another message; what follows it goes on then."""
    token = await suspended(jobs, "1", "a", "b", undo=True)
    await jobs.ended("1", "a", Ended(b"1"))
    await jobs.ended("1", "b", Ended(b"1"))
    await jobs.run(finish, Owner(APP, "1", 0), token, LOST)
    await jobs.ended("1", "b", LOST, "undo")
    assert await jobs.state("1") == UNDO_FAILED
    assert await jobs.sent("1.a.undo") == 0
    renewed = {"1.b.undo": ("again", Properties(message_id="again", type="back"))}
    assert await jobs.run(undo_job, APP, "1", renewed) == (UNDO_FAILED, 1)
    assert await jobs.sent("again") == 1
    told = await jobs.run(end_step, APP, Family("1", 0, "b", "undo"), "again", Ended(b"null"))
    assert told.woken == 1
    await jobs.ended("1", "a", Ended(b"null"), "undo")
    assert await jobs.state("1") == UNDONE


async def failed_job(jobs: Jobs, *, undo: bool = False) -> None:
    """A job with three steps that has failed."""
    begun = await jobs.begun("1")
    owner = Owner(APP, "1", 0)
    for n, name in enumerate("abc", 1):
        back = Undo(message(f"1.{name}.undo", "back"), given=True) if undo else None
        assert await jobs.run(put, owner, begun.token, Step(name, STEP, n, result=b"1", undo=back))
    waits = Step("d", SLEEP, 4, WAITING, awaited=True)
    assert await jobs.run(put, owner, begun.token, waits)
    await jobs.run(finish, owner, begun.token, LOST)


@pytest.mark.parametrize(
    ("replay", "kept"), [(None, "abc"), ("b", "a"), ("a", ""), ("unknown", "abc"), (False, "")]
)
async def test_a_replay_keeps_what_is_done_before_its_step(
    jobs: Jobs, replay: str | bool | None, kept: str
) -> None:
    """All of it by default, nothing for a restart; what was waited for is not taken along."""
    await failed_job(jobs)
    begun = await jobs.begun("1", 1, replay=replay)
    assert sorted(begun.steps) == list(kept)
    assert await jobs.state("1") == RUNNING


async def test_a_replay_of_what_was_undone_starts_anew(jobs: Jobs) -> None:
    """What was taken back is done again; while it is being taken back nothing begins."""
    await failed_job(jobs, undo=True)
    early = await jobs.run(begin, Beginning(Owner(APP, "1", 1), "whole", "wholes"))
    assert isinstance(early, NotBegun)
    assert early.state == UNDOING
    for name in "cba":
        await jobs.ended("1", name, Ended(b"null"), "undo")
    assert await jobs.state("1") == UNDONE
    assert (await jobs.begun("1", 1)).steps == {}


async def test_a_message_of_an_earlier_epoch_changes_nothing(jobs: Jobs) -> None:
    """Neither a run of it, nor the end of a child that it had."""
    await failed_job(jobs)
    await jobs.begun("1", 1)
    early = await jobs.run(begin, Beginning(Owner(APP, "1", 0), "whole", "wholes"))
    assert early == NotBegun(SUSPENDED)
    told = await jobs.run(end_step, APP, Family("1", 0, "d"), "1.d", Ended(b"1"))
    assert told == Told()


async def test_a_result_is_of_the_job_that_was_called(jobs: Jobs) -> None:
    """An end of another job, which claims to be the same part, ends nothing."""
    await suspended(jobs, "1", "a")
    told = await jobs.run(end_step, APP, Family("1", 0, "a"), "another", Ended(b"1"))
    assert told == Told()
    assert await jobs.state("1") == SUSPENDED


async def test_a_row_that_is_pruned_meanwhile_is_no_error(jobs: Jobs) -> None:
    """A child that ends after its parent was forgotten tells nobody."""
    await suspended(jobs, "1", "a")

    def forget(connection: Connection, now: Any) -> None:
        connection.execute(update(durable).values(app="another"))

    await jobs.run(forget)
    assert (await jobs.ended("1", "a", Ended(b"1"))).woken == 0
