"""The rows of durable jobs that are cancelled, undone and looked at, on both databases."""

from typing import Any

from sqlalchemy import Connection

from amqpjobs.state.durable.cancelling import cancel_row
from amqpjobs.state.durable.duties import prune
from amqpjobs.state.durable.ends import finish, suspend
from amqpjobs.state.durable.looking import status_of
from amqpjobs.state.durable.rows import Beginning, NotBegun, Owner, begin
from amqpjobs.state.durable.undoing import undo_job
from amqpjobs.state.durable.undone import abandoned, failed_undos, state_of
from amqpjobs.state.durable.values import (
    CANCELLED,
    RUNNING,
    SUSPENDED,
    UNDO_FAILED,
    UNDOING,
    Ended,
    Failed,
    Told,
)
from amqpjobs.state.durable.waits import send_signal
from amqpjobs.state.why.stored import InOutbox, stored_of
from tests.support.durable_rows import APP, LOST, Jobs, message, suspended

STOPPED = Ended(error=Failed("cancelled", "twice"), cancelled=True)


async def test_a_job_that_is_cancelled_while_it_waits_is_sent_once_and_begins_no_more(
    jobs: Jobs,
) -> None:
    """Two who cancel it at once send it once; the worker that gets it is told why it ends."""
    await suspended(jobs, "1", "a")
    cancel = (cancel_row, APP, "1", "twice", False)
    found = await jobs.both(cancel, cancel)
    assert sorted(sent for _, sent in found) == [False, True]
    assert await jobs.sent("1") == 1
    begun = await jobs.run(begin, Beginning(Owner(APP, "1", 0), "whole", "wholes"))
    assert begun == NotBegun(CANCELLED, None, Failed("cancelled", "twice"))
    told = await jobs.run(finish, Owner(APP, "1", 0), None, STOPPED)
    assert (told.state, told.orphans, told.undo) == (CANCELLED, ("1.a",), False)
    assert await jobs.run(cancel_row, APP, "1", "late", False) == (CANCELLED, False)
    assert await jobs.run(cancel_row, APP, "unknown", "late", False) == (None, False)


async def test_a_run_that_is_cancelled_before_it_would_wait_is_sent_again(jobs: Jobs) -> None:
    """Whichever of both commits first, it does not wait."""
    for n in range(20):
        job_id = str(n)
        begun = await jobs.begun(job_id)
        await jobs.called(job_id, begun.token, "a")
        owner = Owner(APP, job_id, 0)
        leave = (suspend, owner, begun.token, ("a",), message(job_id))
        _, (state, _) = await jobs.both(leave, (cancel_row, APP, job_id, "twice", False))
        assert state in (RUNNING, SUSPENDED)
        assert await jobs.sent(job_id) == 1
        assert await jobs.state(job_id) == RUNNING


async def test_a_cancelled_job_is_undone_only_if_that_was_asked_for(jobs: Jobs) -> None:
    """And that is kept, whoever cancels it once more without it."""
    for job_id, undo in (("1", False), ("2", True)):
        await suspended(jobs, job_id, "a", "b", undo=True)
        await jobs.ended(job_id, "a", Ended(b"1"))
        await jobs.run(cancel_row, APP, job_id, "twice", undo)
        await jobs.run(cancel_row, APP, job_id, "again", False)
        told = await jobs.run(finish, Owner(APP, job_id, 0), None, STOPPED)
        assert (told.state, told.undo) == (UNDOING if undo else CANCELLED, undo)


async def test_what_could_not_be_undone_is_sent_again_under_another_id(jobs: Jobs) -> None:
    """What comes of the old message changes nothing then."""
    await suspended(jobs, "1", "a", undo=True)
    await jobs.ended("1", "a", Ended(b"1"))
    begun = await jobs.begun("1")
    await jobs.run(finish, Owner(APP, "1", 0), begun.token, LOST)
    assert await jobs.ended("1", "a", LOST, part="undo") == Told(state=UNDO_FAILED)
    [(undo_id, properties)] = await jobs.first.run(failed_undos, APP, "1")
    assert undo_id == "1.a.undo"
    renewed = {undo_id: ("new", properties)}
    assert await jobs.run(undo_job, APP, "1", renewed) == (UNDO_FAILED, 1)
    assert await jobs.sent("new") == 1
    assert await jobs.ended("1", "a", Ended(b"null"), part="undo") == Told()
    assert await jobs.first.run(state_of, APP, "1") == UNDOING
    status = await jobs.first.run(status_of, APP, "1", jobs.first.now)
    assert status is not None
    assert (status.steps[0].undo_id, status.steps[0].undo_state) == ("new", "sent")


async def test_the_children_that_were_abandoned_are_found(jobs: Jobs) -> None:
    """Of the epoch that the job is at."""
    await suspended(jobs, "1", "a", "b")
    await jobs.ended("1", "a", Ended(b"1"))
    await jobs.run(cancel_row, APP, "1", "twice", False)
    await jobs.run(finish, Owner(APP, "1", 0), None, STOPPED)
    assert await jobs.first.run(abandoned, APP, "1") == ["1.b"]
    assert await jobs.first.run(abandoned, APP, "unknown") == []
    assert await jobs.run(undo_job, APP, "1", {}) == (CANCELLED, 0)
    assert await jobs.state("1") == CANCELLED


async def test_all_that_is_stored_of_a_job_is_found(jobs: Jobs) -> None:
    """Its messages, its steps, and who waits for it."""
    await suspended(jobs, "1", "a", "b", send=True)
    await jobs.ended("1", "a", Ended(b'"' + b"x" * 1000 + b'"'))
    found = await jobs.run(stored_of, APP, "1")
    assert found.outbox == []
    assert [step.name for step in found.durable.waiting] == ["b"]
    assert found.durable.steps[0].result == '"' + "x" * 199 + "..."
    child = await jobs.run(stored_of, APP, "1.b")
    assert [type(row) for row in child.outbox] == [InOutbox]
    assert (child.durable, child.called.parent_id, child.called.step) == (None, "1", "b")
    await jobs.ended("1", "b", LOST)
    woken = await jobs.run(stored_of, APP, "1")
    assert [row.refused for row in woken.outbox] == [None]


async def test_a_signal_for_a_job_that_never_began_is_forgotten(jobs: Jobs) -> None:
    """After the same time as jobs that ended; one that a job may still take is kept."""
    await suspended(jobs, "1", "a")
    for job_id in ("1", "unknown"):
        assert await jobs.run(send_signal, APP, job_id, "go", b"1") == (True, False)
    now = jobs.first.now
    assert await jobs.first.run(prune, APP, now, 3600.0, 100) == 0
    assert await jobs.first.run(prune, APP, now, -1.0, 100) == 1
    assert await jobs.steps("unknown") == {}
    assert sorted(await jobs.steps("1")) == ["a", "go"]


async def test_a_job_that_a_replay_begins_is_not_forgotten(jobs: Jobs) -> None:
    """Also when its end was found to be old a moment before."""

    def forget(connection: Connection, now: Any) -> int:
        return prune(connection, APP, now, -1.0, 100)

    for n in range(50):
        job_id = str(n)
        begun = await jobs.begun(job_id)
        await jobs.run(finish, Owner(APP, job_id, 0), begun.token, LOST)
        again = Beginning(Owner(APP, job_id, 1), "whole", "wholes")
        await jobs.both((begin, again), (forget,))
        assert await jobs.state(job_id) == RUNNING
