"""Calls and ends that come together are written by few statements, to the same effect as one by
one."""

from typing import Any

import pytest
from sqlalchemy import Connection

from amqpjobs.jobs.message.family import Family
from amqpjobs.state.durable.bulk import Piece, run_pieces
from amqpjobs.state.durable.ends import end_step, finish
from amqpjobs.state.durable.rows import Owner, put
from amqpjobs.state.durable.values import (
    CALL,
    DONE,
    FAILED,
    RUNNING,
    SLEEP,
    SUSPENDED,
    WAITING,
    Ended,
    Step,
    Told,
    Undo,
)
from tests.support.durable_rows import APP, LOST, Jobs, message, suspended

OWNER = Owner(APP, "1", 0)


def calls(jobs: Jobs, token: int, *names: str, undo: str = "") -> list[Piece]:
    """As a run writes them; those with a name in `undo` can be taken back."""
    found = []
    for n, name in enumerate(names, 1):
        back = Undo(message(f"1.{name}.undo", "back"), given=True) if name in undo else None
        step = Step(
            name, CALL, n, WAITING, "f" * 64, awaited=True, child="part", child_id=f"1.{name}",
            undo=back,
        )  # fmt: skip
        more = {"message": message(f"1.{name}"), "wait": None}
        found.append(Piece("1", put, (OWNER, token, step, jobs.first.now), more))
    return found


def ends(jobs: Jobs, *names: str, ended: Ended = Ended(b"1")) -> list[Piece]:
    """As a worker writes them."""
    return [
        Piece("1", end_step, (APP, Family("1", 0, name), f"1.{name}", ended, jobs.first.now), {})
        for name in names
    ]


async def run(jobs: Jobs, pieces: list[Piece]) -> list[Any]:
    """All in one transaction."""
    return await jobs.first.run(run_pieces, pieces)


async def test_calls_that_are_made_together_are_written_and_sent(jobs: Jobs) -> None:
    """All that one call writes is there, also where only some can be taken back."""
    begun = await jobs.begun("1")
    assert await run(jobs, calls(jobs, begun.token, "a", "b", undo="b")) == [True, True]
    assert [await jobs.sent(f"1.{name}") for name in "ab"] == [1, 1]
    assert (await jobs.steps("1"))["a"] == Step(
        "a", CALL, 1, WAITING, "f" * 64, child="part", child_id="1.a", awaited=True
    )
    assert await run(jobs, ends(jobs, "a", "b")) == [Told(), Told()]
    assert (await jobs.run(finish, OWNER, begun.token, LOST)).woken == 1
    assert [await jobs.sent(f"1.{name}.undo") for name in "ab"] == [0, 1]


async def test_a_call_that_has_ended_is_not_made_again(jobs: Jobs) -> None:
    """The others are."""
    begun = await jobs.begun("1")
    await run(jobs, calls(jobs, begun.token, "a"))
    await jobs.ended("1", "a", Ended(b"1"))
    assert await run(jobs, calls(jobs, begun.token, "a", "b")) == [False, True]
    assert [await jobs.sent(f"1.{name}") for name in "ab"] == [1, 1]
    assert (await jobs.steps("1"))["a"].state == DONE


async def test_an_older_run_makes_no_calls(jobs: Jobs) -> None:
    """None of them, and nothing is sent."""
    older = await jobs.begun("1")
    await jobs.begun("1")
    assert await run(jobs, calls(jobs, older.token, "a", "b")) == [False, False]
    assert await jobs.sent("1.a") == 0
    assert await jobs.steps("1") == {}


async def test_what_is_not_of_one_kind_is_written_one_by_one(jobs: Jobs) -> None:
    """A call with a time limit, one twice, and another step among them."""
    begun = await jobs.begun("1")
    limited, plain, twice = calls(jobs, begun.token, "a", "b", "c")
    limited = Piece("1", put, limited.args, {**limited.kwargs, "wait": 60.0})
    sleep = Step("d", SLEEP, 4, WAITING, awaited=True)
    rest = Piece("1", put, (OWNER, begun.token, sleep, jobs.first.now), {"wait": 5.0})
    assert await run(jobs, [limited, plain, twice, twice, rest]) == [True] * 5
    kept = await jobs.steps("1")
    assert sorted(kept) == list("abcd")
    assert [kept[name].due_at is None for name in "abcd"] == [False, True, True, False]


async def test_ends_that_come_together_wake_once(jobs: Jobs) -> None:
    """When the last of them is there; a duplicate, and one of another job, change nothing."""
    await suspended(jobs, "1", "a", "b", "c", "d")
    told = await run(jobs, [*ends(jobs, "a"), *ends(jobs, "b", ended=LOST)])
    assert sum(each.woken for each in told) == 0
    strange = Piece("1", end_step, (APP, Family("1", 0, "d"), "x", LOST, jobs.first.now), {})
    told = await run(jobs, [*ends(jobs, "a", "c", ended=Ended(b"2")), strange])
    assert sum(each.woken for each in told) == 0
    assert await jobs.state("1") == SUSPENDED
    told = await run(jobs, ends(jobs, "c", "d", ended=Ended(b"3")))
    assert sum(each.woken for each in told) == 1
    assert (await jobs.sent("1"), await jobs.state("1")) == (1, RUNNING)
    kept = await jobs.steps("1")
    assert [(step.state, step.result) for step in kept.values()] == [
        (DONE, b"1"), (FAILED, None), (DONE, b"2"), (DONE, b"3")
    ]  # fmt: skip
    assert kept["b"].error == LOST.error


@pytest.mark.timeout(120)
async def test_the_last_ends_of_two_processes_wake_once(jobs: Jobs) -> None:
    """Some together, with duplicates among them, in every round."""
    for n in range(50):
        job_id = str(n)
        await suspended(jobs, job_id, *"abcdef")

        def some(connection: Connection, names: str, now: Any, job_id: str = job_id) -> int:
            pieces = [
                Piece(
                    job_id,
                    end_step,
                    (APP, Family(job_id, 0, name), f"{job_id}.{name}", Ended(b"1"), now),
                    {},
                )
                for name in names
            ]
            return sum(told.woken for told in run_pieces(connection, pieces))

        woken = await jobs.both((some, "abcd"), (some, "fedc"))
        assert sum(woken) == 1, f"round {n}"
        assert await jobs.sent(job_id) == 1
