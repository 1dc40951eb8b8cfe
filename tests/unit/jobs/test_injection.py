"""Dependencies get the Context wherever they stand, or the job is refused when it is declared."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any

import pytest

from amqpjobs import INJECTED, App, Context, Depends
from amqpjobs.errors import ConfigurationError


def job_of(ctx: Context) -> str:
    return ctx.job_id


async def job_of_async(context: Context) -> str:
    return context.job_id


def inside(value: Annotated[str, Depends(job_of)]) -> str:
    return value


def entered(ctx: Context) -> Iterator[str]:
    yield ctx.job_id


async def entered_async(anything: Context) -> AsyncIterator[str]:
    yield anything.job_id


class Caller:
    def __call__(self, c: Context) -> str:
        return c.job_id


class Made:
    def __init__(self, c: Context) -> None:
        self.job_id = c.job_id

    def __str__(self) -> str:
        return self.job_id


def both(ctx: Context, order: int) -> str:
    return ctx.job_id if order == 7 else ""


def from_another(ctx: Context, first: str) -> str:
    return first if ctx.job_id else ""


async def ran(app: App, job: Any) -> tuple[str, list[Any]]:
    async with app.testing() as t:
        handle = await job.later(7)
        await t.run_until_idle()
        return handle.id, t.results(job)


PLAIN = [job_of, inside, entered, Caller(), Made, both]


@pytest.mark.parametrize("dependency", [*PLAIN, job_of_async, entered_async], ids=str)
async def test_a_dependency_takes_the_context_of_the_job(dependency: Callable[..., Any]) -> None:
    app = App("a")

    @app.job(queue="q")
    async def job(order: int, found: Annotated[Any, Depends(dependency)] = INJECTED) -> str:
        return str(found)

    job_id, results = await ran(app, job)
    assert results == [job_id]


@pytest.mark.parametrize("dependency", PLAIN, ids=str)
async def test_in_a_thread_and_beside_a_context_of_the_handler(
    dependency: Callable[..., Any],
) -> None:
    app = App("a")

    @app.job(queue="q")
    def job(mine: Context, order: int, found: Any = Depends(dependency)) -> str:
        return str(found) if mine.job == "job" else ""

    job_id, results = await ran(app, job)
    assert results == [job_id]


async def test_a_dependency_takes_what_another_one_gave() -> None:
    app = App("a")

    @app.job(queue="q")
    async def job(
        order: int,
        first: Annotated[str, Depends(job_of)] = INJECTED,
        second: Annotated[str, Depends(from_another)] = INJECTED,
    ) -> str:
        return second

    job_id, results = await ran(app, job)
    assert results == [job_id]


async def test_a_plain_call_has_a_context_too() -> None:
    app = App("a")

    @app.job(queue="q")
    async def job(order: int, found: Annotated[str, Depends(job_of)] = INJECTED) -> str:
        return found

    assert len(await job(7)) == 36


def lost(nowhere: str) -> str:
    return nowhere


def taken(order: Context) -> str:
    return order.job


def deep(value: Annotated[str, Depends(lost)]) -> str:
    return value


@pytest.mark.parametrize(
    ("dependency", "words"),
    [
        (lost, "dependency 'lost': nothing fills its parameter 'nowhere'"),
        (deep, "dependency 'lost': nothing fills its parameter 'nowhere'"),
        (taken, "takes the Context as 'order', which is an argument of the job"),
    ],
)
def test_what_nothing_fills_is_refused_at_the_declaration(
    dependency: Callable[..., Any], words: str
) -> None:
    app = App("a")

    async def job(order: int, found: Any = Depends(dependency)) -> None: ...

    with pytest.raises(ConfigurationError, match=words):
        app.job(queue="q")(job)
