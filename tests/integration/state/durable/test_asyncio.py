"""What durable jobs make of the ways in which asyncio and anyio wait for several things."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from typing import Any

import anyio
import pytest

from amqpjobs import App, Context, Job, Retry
from amqpjobs.errors import JobFailed

Double = Job[[int], int, Awaitable[int]]
Body = Callable[[Context, Double, list[Any]], Awaitable[None]]


def make_app(body: Body, seen: list[Any], **options: Any) -> tuple[App, Job[..., Any, Any]]:
    """An app with a durable job that does this, and a job that it may call: 13 fails."""
    app = App("shop", retry=Retry(attempts=1))

    @app.job(queue="children")
    async def double(n: int) -> int:
        if n == 13:
            raise ValueError("thirteen")
        return n * 2

    @app.job(queue="parents", durable=True, **options)
    async def parent(ctx: Context) -> None:
        await body(ctx, double, seen)

    return app, parent


async def done_by(body: Body, *, advance: float = 0.0, **options: Any) -> tuple[list[Any], int]:
    """What the job has seen, and how often it was suspended."""
    seen: list[Any] = []
    app, parent = make_app(body, seen, **options)
    async with app.testing(raise_errors=False) as t:
        await parent.later()
        await t.run_until_idle()
        if advance:
            await t.advance(advance)
        outcomes = [run.outcome for run in t.runs() if run.job == "parent"]
        assert outcomes[-1] == "done", (outcomes, [dead.message for dead in t.dead()])
    return seen, outcomes.count("suspended")


async def _gather(ctx: Context, double: Double, seen: list[Any]) -> None:
    calls = (ctx.call("a", double, 1), ctx.call("b", double, 13))
    results = await asyncio.gather(*calls, return_exceptions=True)
    seen.append([type(result) for result in results])


async def _nested_gather(ctx: Context, double: Double, seen: list[Any]) -> None:
    async def inner() -> list[Any]:
        calls = (ctx.call("a", double, 1), ctx.call("b", double, 2))
        return list(await asyncio.gather(*calls, return_exceptions=True))

    async with asyncio.TaskGroup() as group:
        pair = group.create_task(inner())
        one = group.create_task(ctx.call("c", double, 3))
    seen.append([*pair.result(), one.result()])


async def _wait(ctx: Context, double: Double, seen: list[Any]) -> None:
    tasks = [asyncio.ensure_future(ctx.call(f"{n}", double, n)) for n in (1, 2)]
    await asyncio.wait(tasks)
    seen.append([task.result() for task in tasks])


async def _shield(ctx: Context, double: Double, seen: list[Any]) -> None:
    seen.append(await asyncio.shield(ctx.call("a", double, 1)))


async def _wait_for(ctx: Context, double: Double, seen: list[Any]) -> None:
    seen.append(await asyncio.wait_for(ctx.call("a", double, 1), 100))


async def _timeouts(ctx: Context, double: Double, seen: list[Any]) -> None:
    async with asyncio.timeout(100):
        with anyio.fail_after(100):
            seen.append(await ctx.call("a", double, 1))


async def _anyio(ctx: Context, double: Double, seen: list[Any]) -> None:
    results: list[int] = []

    async def one(n: int) -> None:
        results.append(await ctx.call(f"{n}", double, n))

    async with anyio.create_task_group() as group:
        group.start_soon(one, 1)
        group.start_soon(one, 2)
    seen.append(sorted(results))


async def _stack(ctx: Context, double: Double, seen: list[Any]) -> None:
    async with AsyncExitStack() as stack:
        stack.push_async_callback(asyncio.sleep, 0.01)
        seen.append(await ctx.call("a", double, 1))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (_gather, [int, JobFailed]), (_nested_gather, [2, 4, 6]), (_wait, [2, 4]), (_shield, 2),
        (_wait_for, 2), (_timeouts, 2), (_anyio, [2, 4]), (_stack, 2),
    ],
)  # fmt: skip
async def test_a_handler_that_waits_is_left_once_and_sees_nothing_of_it(
    body: Body, expected: object, caplog: pytest.LogCaptureFixture
) -> None:
    """Not as a result either, where it asks for the errors of its tasks; and nothing is logged."""
    with caplog.at_level(logging.WARNING):
        assert await done_by(body) == ([expected], 1)
    assert [r.message for r in caplog.records if r.message != "job failed"] == []


async def test_a_handler_that_waits_for_the_first_of_several_goes_on_then() -> None:
    """Also if it was suspended meanwhile: that is how something else may be a time limit."""

    async def body(ctx: Context, double: Double, seen: list[Any]) -> None:
        call = asyncio.ensure_future(ctx.call("a", double, 1))
        limit = asyncio.ensure_future(ctx.sleep("limit", 3600))
        done, _ = await asyncio.wait((call, limit), return_when=asyncio.FIRST_COMPLETED)
        seen.append(done == {call})
        limit.cancel()

    assert await done_by(body) == ([True], 1)


async def test_what_ends_before_the_first_of_several_is_waited_for_is_enough() -> None:
    """Then it goes on at once."""

    async def body(ctx: Context, double: Double, seen: list[Any]) -> None:
        tasks = {asyncio.ensure_future(ctx.call(f"{n}", double, n)) for n in range(3)}
        while tasks:
            done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            seen.extend(task.result() for task in done)

    seen, suspended = await done_by(body)
    assert sorted(seen[-3:]) == [0, 2, 4]
    assert 1 <= suspended <= 3


async def test_tasks_that_wait_for_each_other_are_no_work() -> None:
    """Of events, semaphores, queues and `as_completed` it is not known who goes on next: such a
    handler is left after a moment."""

    async def body(ctx: Context, double: Double, seen: list[Any]) -> None:
        slots = asyncio.Semaphore(2)

        async def one(n: int) -> int:
            async with slots:
                return await ctx.call(f"{n}", double, n)

        results = [await each for each in asyncio.as_completed([one(1), one(2), one(3)])]
        seen.append(sorted(results))

    assert await done_by(body) == ([[2, 4, 6]], 2)


async def test_a_step_that_goes_on_in_the_background_is_not_begun_twice() -> None:
    """The handler is left when it has ended."""
    began = []

    async def body(ctx: Context, double: Double, seen: list[Any]) -> None:
        async def slow() -> str:
            began.append(1)
            await asyncio.sleep(0.3)
            return "slow"

        step = asyncio.ensure_future(ctx.step("slow", slow))
        await asyncio.sleep(0)
        seen.append(await ctx.call("a", double, 1))
        seen.append(await step)

    assert await done_by(body) == ([2, "slow"], 1)
    assert began == [1]


async def test_what_a_handler_leaves_behind_ends_with_it() -> None:
    """Its tasks are cancelled, and do nothing more for the job."""
    ends: list[str] = []

    async def body(ctx: Context, double: Double, seen: list[Any]) -> None:
        async def forgotten() -> None:
            try:
                await ctx.call("a", double, 1)
            except asyncio.CancelledError:
                ends.append("cancelled")
                raise

        seen.append(asyncio.ensure_future(forgotten()))
        await asyncio.sleep(0.2)

    (task,), suspended = await done_by(body)
    assert (ends, suspended, task.cancelled()) == (["cancelled"], 0, True)


async def test_a_handler_that_catches_everything_is_told_of_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What it returns then is dropped, and it can ask for nothing more in this run."""

    async def body(ctx: Context, double: Double, seen: list[Any]) -> None:
        try:
            await ctx.call("a", double, 1)
        except BaseException:
            await ctx.step("clean", seen.append, "clean")
        seen.append("end")

    with caplog.at_level(logging.WARNING):
        assert await done_by(body) == (["end"], 1)
    assert "handler caught the suspension, its result is dropped" not in caplog.messages

    async def caught(ctx: Context, double: Double, seen: list[Any]) -> None:
        with suppress(BaseException):
            seen.append(await ctx.call("a", double, 1))

    with caplog.at_level(logging.WARNING):
        assert await done_by(caught) == ([2], 1)
    assert "handler caught the suspension, its result is dropped" in caplog.messages


async def test_a_step_that_failed_may_be_tried_again_in_the_same_run() -> None:
    """As libraries that retry do; a call fails again as it did, and is not sent again."""
    tries = []

    async def body(ctx: Context, double: Double, seen: list[Any]) -> None:
        async def flaky() -> int:
            tries.append(1)
            if len(tries) < 3:
                raise OSError("away")
            return 7

        for _ in range(3):
            try:
                seen.append(await ctx.step("flaky", flaky))
                break
            except OSError:
                seen.append("failed")
        for _ in range(2):
            try:
                await ctx.call("thirteen", double, 13)
            except JobFailed:
                seen.append("thirteen")

    assert await done_by(body) == ([*["failed"] * 2, 7, 7, "thirteen", "thirteen"], 1)


@pytest.mark.parametrize("name", [7, "", "x" * 201, "a\0b", "\ud800", None, ["x"]])
async def test_a_name_that_is_none_fails_the_job_for_good(name: Any) -> None:
    """No run would do better."""

    async def body(ctx: Context, double: Double, seen: list[Any]) -> None:
        await ctx.step(name, print)

    app, parent = make_app(body, [], retry=Retry(attempts=3))
    async with app.testing(raise_errors=False) as t:
        await parent.later()
        await t.run_until_idle()
        (dead,) = t.dead()
        assert [run.outcome for run in t.runs()] == ["failed"]
    assert "the name of a step must be a text of 1 to 200 characters" in dead.message


async def test_a_result_that_cannot_be_stored_fails_the_job_for_good() -> None:
    """Each run would call the function again, and fail again."""
    calls = []

    async def body(ctx: Context, double: Double, seen: list[Any]) -> None:
        def number() -> int:
            calls.append(1)
            return "seven"  # type: ignore[return-value]

        await ctx.step("number", number)

    app, parent = make_app(body, [], retry=Retry(attempts=3))
    async with app.testing(raise_errors=False) as t:
        await parent.later()
        await t.run_until_idle()
        (dead,) = t.dead()
    assert calls == [1]
    assert "Expected `int`" in dead.message
