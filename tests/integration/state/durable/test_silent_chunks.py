"""Chunks of maps that nothing is heard of: they are sent again, then their items have failed."""

from datetime import timedelta
from typing import Any

import pytest

from amqpjobs import App, Context, Retry, Snooze

A_DAY = timedelta(days=1, hours=1)


def an_app(chunk: int) -> tuple[App, Any, list[int]]:
    """A durable job that maps another one, which snoozes first; and what that has done."""
    app, done = App("silent", retry=Retry(attempts=1)), list[int]()

    @app.job(queue="parts")
    async def part(number: int) -> int:
        done.append(number)
        if number >= 0 and done.count(number) == 1:
            raise Snooze(3600)
        if number < 0 and done.count(number) < 5:
            raise Snooze(3 * 86_400)
        return number * 2

    @app.job(queue="wholes", durable=True)
    async def whole(ctx: Context, numbers: list[int]) -> list[Any]:
        found = await ctx.map("parts", part, numbers, chunk=chunk, on_failure="collect")
        return [each if isinstance(each, int) else str(each) for each in found]

    return app, whole, done


def lose(t: Any) -> int:
    """Purge the queues of delays: how many messages there were."""
    queues = t.broker.virtual_host.queues.values()
    return sum(queue.purge() for queue in queues if queue.name.startswith("amqpjobs.delay"))


@pytest.mark.parametrize("chunk", [1, 2])
async def test_a_lost_chunk_is_made_up_for(chunk: int) -> None:
    """When it was silent for a day beyond the time when it was due."""
    app, whole, done = an_app(chunk)
    async with app.testing() as t:
        await whole.later([1, 2])
        await t.run_until_idle()
        assert lose(t) == 2 // chunk
        await t.advance(timedelta(hours=20))
        assert sorted(done) == [1, 2]
        await t.advance(A_DAY)
        assert sorted(done) == [1, 1, 2, 2]
        assert t.results(whole) == [[2, 4]]


async def test_a_chunk_that_is_always_lost_is_given_up() -> None:
    """Its items have failed; those that were done are kept."""
    app, whole, done = an_app(2)
    async with app.testing(raise_errors=False) as t:
        await whole.later([-1, 2])
        await t.run_until_idle()
        for _ in range(4):
            lose(t)
            await t.advance(timedelta(days=5))
        (found,) = t.results(whole)
        assert "no sign of life" in found[0]
        assert found[1] == 4
        assert done.count(-1) < 5
