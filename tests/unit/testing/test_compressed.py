"""Compressed bodies in the test kit: jobs, requests and dead letters are what they were."""

import json

import pytest

from amqpjobs import App, Context, Retry
from amqpjobs.errors import JobFailed, MessageTooLarge
from amqpjobs.settings import Settings

LONG = "x" * 5000


def app_with(**settings: object) -> App:
    given = Settings(url="amqp://nowhere.invalid", **settings)  # type: ignore[arg-type]
    return App("shop", settings=given, retry=Retry(attempts=1))


async def test_what_is_large_is_compressed_and_undone() -> None:
    """By a worker; what is small stays as it is."""
    app = app_with(compress="GZIP", compress_above=1000)

    @app.job(queue="work")
    async def job(ctx: Context, text: str) -> str | None:
        if text == LONG:
            assert ctx.message.content_encoding == "gzip"
        return ctx.message.content_encoding and text

    @app.job(queue="work")
    def thread(text: str) -> str:
        return text

    async with app.testing() as t:
        await app.later_many([job.message(LONG), job.message("short")])
        await job.with_options(delay=1).later(LONG)
        await t.advance(1)
        assert t.results(job) == [LONG, None, LONG]
        assert t.enqueued(job)[0].arguments == {"text": LONG}
        assert await job.request(LONG) == LONG
        assert await thread.request(LONG) == LONG
        with pytest.raises(MessageTooLarge):
            await job.later("x" * 2**20)


async def test_a_dead_letter_can_be_read_edited_and_replayed() -> None:
    """It is the message as it was, compressed."""
    app = app_with(compress="gzip", compress_above=0)
    good: list[str] = []

    @app.job(queue="work")
    async def job(text: str) -> None:
        if text == LONG:
            raise ValueError
        good.append(text)

    async with app.testing(raise_errors=False) as t:
        await job.later(LONG)
        await t.run_until_idle()
        [dead] = t.dead()
        assert dead.arguments == {"text": LONG}
        bench = app.dead_letters("work")
        [letter] = (await bench.look()).letters
        assert letter.properties.content_encoding == "gzip"
        assert len(letter.body) < 200
        assert json.loads(letter.readable_body) == LONG
        assert await bench.replace(letter, b'"short"')
        await t.run_until_idle()
        assert good == ["short"]


async def test_an_error_that_is_the_answer_says_why() -> None:
    """Its reply is compressed as any other."""
    app = app_with(compress="gzip", compress_above=0)

    @app.job(queue="work")
    async def job() -> None:
        raise ValueError(LONG)

    async with app.testing(raise_errors=False):
        with pytest.raises(JobFailed, match=LONG[:500]):
            await job.request()


async def test_a_bomb_is_a_dead_letter() -> None:
    """What it becomes has the limit of every body."""
    app = app_with(compress="gzip", compress_above=0)
    small = app_with(max_message_size=1000)

    @app.job(queue="work")
    async def job(text: str) -> None: ...

    @small.job(queue="work", name="job")
    async def same(text: str) -> None: ...

    async with small.testing(raise_errors=False) as t:
        with app.placed(settings=app.settings.model_copy(update={"url": small.settings.url})):
            async with app.lifespan():
                await job.later("x" * 100_000)
        await t.run_until_idle()
        [dead] = t.dead()
        assert (dead.reason, "1000 bytes" in dead.message) == ("invalid", True)
