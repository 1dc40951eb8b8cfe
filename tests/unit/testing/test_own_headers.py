"""Headers of a call in the test kit: what jobs see of them, and what they pass on."""

import asyncio
from dataclasses import replace

import pytest

from amqpjobs import App, Context, Message, Reject, Retry, Snooze
from amqpjobs.errors import ConfigurationError, PublishManyFailed
from amqpjobs.settings import Settings
from tests.unit.testing import cpu_jobs

ACME = {"tenant": "acme", "n": 7, "rate": 0.5, "big": True}


@pytest.fixture
def app() -> App:
    return App(
        "shop",
        settings=Settings(url="amqp://nowhere.invalid"),
        retry=Retry(attempts=3, first=5, jitter=False),
        propagate=("tenant", "n"),
    )


async def test_they_are_the_same_in_every_run(app: App) -> None:
    """After a delay, a snooze and retries; and on the dead letter."""
    seen = []

    @app.job(queue="work")
    async def job(ctx: Context, n: int) -> None:
        seen.append(dict(ctx.headers))
        if len(seen) == 1:
            raise Snooze(60)
        raise OSError

    async with app.testing(raise_errors=False) as t:
        await job.with_options(headers=ACME, delay=30).later(1)
        for _ in range(4):
            await t.advance(100)
        assert seen == [ACME] * 4
        assert t.enqueued(job)[0].options.headers == ACME
        [letter] = (await app.dead_letters("work").look()).letters
        assert ACME.items() <= letter.properties.headers.items()


async def test_what_a_job_enqueues_has_those_of_its_own(app: App) -> None:
    """By `later`, `later_many` and `request`, from the event loop and from a thread."""

    @app.job(queue="children")
    async def child(ctx: Context, n: int) -> dict[str, object]:
        return dict(ctx.headers)

    @app.job(queue="work")
    async def job(ctx: Context) -> None:
        await child.later(1)
        await child.with_options(headers={"tenant": "other", "mine": 1}).later(2)
        await child.with_options(headers={"tenant": None}).later(3)
        await app.later_many([child.message(4)])
        assert await child.request(5) == {"tenant": "acme", "n": 7}
        await asyncio.create_task(child.later(6))

    @app.job(queue="work")
    def thread() -> None:
        with app.blocking() as client:
            client.later(child.message(7))
            client.later_many([child.message(8)])

    async with app.testing() as t:
        await job.with_options(headers=ACME).later()
        await t.run_until_idle()
        passed, n = {"tenant": "acme", "n": 7}, {"n": 7}
        sent = {each.arguments["n"]: each.options.headers for each in t.enqueued(child)}
        assert sent == {
            1: passed, 2: {"tenant": "other", "mine": 1, "n": 7}, 3: n, 4: passed, 5: passed,
            6: passed,
        }  # fmt: skip
        assert len(t.results(child)) == 6
        await thread.with_options(headers=ACME).later()
        await t.run_until_idle()
        assert [each.options.headers for each in t.enqueued(child)[6:]] == [passed] * 2
        await child.later(9)
        assert t.enqueued(child)[-1].options.headers == {}


async def test_a_process_sees_them_and_passes_them_on() -> None:
    """That of a ``cpu=True`` job."""
    async with cpu_jobs.app.testing() as t:
        await cpu_jobs.tenant_of.with_options(headers=ACME).later()
        await t.run_until_idle(timeout=30)
        assert t.results(cpu_jobs.tenant_of) == [ACME]
        assert t.results(cpu_jobs.child) == [{"tenant": "acme"}]


async def test_middleware_gives_defaults_and_is_checked() -> None:
    """What it puts into the options is what is sent; what cannot be sent is refused."""

    async def defaults(call_next, message: Message[object]):
        headers = {"tenant": "nobody", **message.options.headers}
        return await call_next(replace(message, options=replace(message.options, headers=headers)))

    app = App("shop", settings=Settings(url="amqp://nowhere.invalid"), publishing=[defaults])

    @app.job(queue="work")
    async def job(ctx: Context) -> dict[str, object]:
        return dict(ctx.headers)

    async with app.testing() as t:
        await job.later()
        await job.with_options(headers={"tenant": "acme"}).later()
        assert await job.request() == {"tenant": "nobody"}
        await t.run_until_idle()
        assert t.results(job)[:2] == [{"tenant": "nobody"}, {"tenant": "acme"}]
        message = job.message()
        bad = replace(message, options=replace(message.options, headers={"x-own": "1"}))
        with pytest.raises(ConfigurationError, match="x-own"):
            await app.enqueue(bad)
        with pytest.raises(PublishManyFailed, match="x-own"):
            await app.later_many([bad])


async def test_a_message_keeps_its_own_id_when_headers_come_to_it(app: App) -> None:
    """It is published once: no token is needed to tell it from others."""

    @app.job(queue="work")
    async def job(ctx: Context) -> list[str]:
        return sorted(ctx.message.headers)

    @app.job(queue="parents")
    async def parent() -> None:
        message = job.message()
        await app.enqueue(message)
        await app.enqueue(message)

    async with app.testing() as t:
        await parent.with_options(headers={"tenant": "acme"}).later()
        await t.run_until_idle()
        assert t.results(job) == [["tenant"], ["amqpjobs-copy", "tenant"]]


async def test_a_plain_call_has_none(app: App) -> None:
    """There is no message."""

    @app.job(queue="work")
    async def job(ctx: Context) -> int:
        if ctx.headers:
            raise Reject("there are some")
        return len(ctx.headers)

    assert await job() == 0
