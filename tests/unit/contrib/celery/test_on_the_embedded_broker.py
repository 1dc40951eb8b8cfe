"""A worker runs the messages that Celery has sent, byte for byte, on the embedded broker."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from aio_pika.abc import AbstractChannel

from amqpjobs import App, Context, Queue, Retry
from amqpjobs.contrib.celery import CeleryTask, CeleryTasks
from amqpjobs.errors import ConfigurationError, InvalidArguments
from tests.support.amqp import count, drain, publish, stranger
from tests.support.celery_messages import CAPTURED, body
from tests.support.waiting import until

REPLIES = CAPTURED["delay"]["properties"]["reply_to"]
HEADERS = ("content_encoding", "correlation_id", "reply_to", "delivery_mode", "priority")


def an_app(**options: Any) -> tuple[App, list[Any]]:
    """One task, and what it has seen."""
    app, seen = App("shop"), []
    celery = Queue("celery", type="classic", foreign=True)

    @app.job(queue=celery, body=CeleryTask, name="shop.tasks.add", **options)
    async def add(ctx: Context, x: int, y: int = 1) -> int:
        seen.append((x, y, ctx.job_id, ctx.attempt, ctx.headers.get("tenant"), ctx.timeout))
        if x < 0 or ctx.attempt < options.get("wanted", 1):
            raise ValueError("below zero", x)
        return x + y

    return app, seen


async def send(channel: AbstractChannel, name: str, **headers: Any) -> str:
    """A captured message, its id, with other headers."""
    given = CAPTURED[name]["properties"]
    properties = {key: given[key] for key in HEADERS if key in given}
    said = {**given["headers"], **headers}
    content_type = given["content_type"]
    await publish(channel, "celery", body(name), content_type=content_type, headers=said,
                  **properties)  # fmt: skip
    return str(said.get("id"))


async def test_it_runs_as_a_job_and_its_result_is_sent() -> None:
    """With its id, its headers, its limits; the result is Celery's."""
    app, seen = an_app()
    async with app.testing() as t, stranger(t.url) as channel:
        await channel.declare_queue(REPLIES)
        ids = [await send(channel, name) for name in ("delay", "timelimit", "kwargs")]
        await t.run_until_idle()
        assert seen == [
            (2, 3, ids[0], 1, None, None), (2, 3, ids[1], 1, None, 10), (2, 5, ids[2], 1, "x", None)
        ]  # fmt: skip
        results = [json.loads(each.body) for each in await drain(t.url, REPLIES)]
        assert [(each["task_id"], each["result"]) for each in results] == [
            (ids[0], 5), (ids[1], 5),
        ]  # fmt: skip


async def test_a_task_waits_until_it_is_due() -> None:
    """On the broker, in no slot, and also where it is due within the moment that a worker holds."""
    app, seen = an_app()
    async with app.testing() as t, stranger(t.url) as channel:
        for wait in (0.5, 60):
            due = t.now + wait
            await send(channel, "eta", eta=datetime.fromtimestamp(due, UTC).isoformat())
        await t.run_until_idle()
        assert not seen
        await t.advance(1)
        assert len(seen) == 1
        await t.advance(60)
        assert [attempt for _, _, _, attempt, _, _ in seen] == [1, 1]


async def test_what_has_expired_is_not_run() -> None:
    """Its caller is told that it was revoked."""
    app, seen = an_app()
    async with app.testing() as t, stranger(t.url) as channel:
        await channel.declare_queue(REPLIES)
        await send(channel, "expires", expires="2020-01-01T00:00:00+00:00")
        await t.run_until_idle()
        assert not seen
        [result] = [json.loads(each.body) for each in await drain(t.url, REPLIES)]
        assert (result["status"], result["result"]["exc_type"]) == ("REVOKED", "TaskRevokedError")


async def test_a_failure_is_sent_and_is_a_dead_letter_of_celery() -> None:
    """After its retries, whose copies keep what Celery wrote."""
    app, seen = an_app(retry=Retry(attempts=2, first=10, factor=1, jitter=0))
    async with app.testing(raise_errors=False) as t, stranger(t.url) as channel:
        await channel.declare_queue(REPLIES)
        text = b'[[-1], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'
        given = CAPTURED["delay"]["properties"]
        properties = {key: given[key] for key in HEADERS}
        await publish(channel, "celery", text, headers=given["headers"], **properties)
        await t.run_until_idle()
        assert await count(channel, REPLIES) == 0  # it is not over
        await t.advance(11)
        assert [attempt for _, _, _, attempt, _, _ in seen] == [1, 2]
        [result] = [json.loads(each.body) for each in await drain(t.url, REPLIES)]
        assert result["result"] == {
            "exc_type": "ValueError", "exc_message": ["below zero", -1], "exc_module": "builtins"
        }  # fmt: skip
        [letter] = await drain(t.url, "celery.dead")
        assert letter.body == text
        assert {key: letter.headers[key] for key in given["headers"]} == given["headers"]
        assert (letter.type, letter.message_id) == ("shop.tasks.add", given["headers"]["id"])
        assert (letter.correlation_id, letter.content_encoding) == (
            given["correlation_id"],
            "utf-8",
        )


@pytest.mark.parametrize("name", ["pickle", "yaml", "v1"])
async def test_what_is_never_read_is_a_dead_letter(name: str) -> None:
    """Other serializers, and protocol 1."""
    app, seen = an_app()
    async with app.testing(raise_errors=False) as t, stranger(t.url) as channel:
        await channel.declare_queue(REPLIES)
        await send(channel, name)
        await t.run_until_idle()
        assert not seen
        [letter] = await drain(t.url, "celery.dead")
        assert letter.body == body(name)


async def test_a_result_that_cannot_be_sent_fails_the_task() -> None:
    """Its caller and its chain would wait for ever."""
    app = App("shop")

    @app.job(queue=Queue("celery", foreign=True), body=CeleryTask, name="shop.tasks.add")
    async def add(x: int, y: int) -> object:
        return object()

    async with app.testing(raise_errors=False) as t, stranger(t.url) as channel:
        await channel.declare_queue(REPLIES)
        await send(channel, "chain")
        await t.run_until_idle()
        results = [json.loads(each.body) for each in await drain(t.url, REPLIES)]
        assert {each["status"] for each in results} == {"FAILURE"}
        assert len(results) == 3
        assert await count(channel, "celery.dead") == 1
        assert await count(channel, "celery") == 0


async def test_a_follower_without_a_queue_is_a_dead_letter() -> None:
    """It is not lost."""
    app, _ = an_app()
    link = {"task": "mail", "options": {"queue": "nowhere"}}
    text = json.dumps([[1, 2], {}, {"callbacks": [link]}]).encode()
    async with app.testing(raise_errors=False) as t, stranger(t.url) as channel:
        await publish(channel, "celery", text, headers={"task": "shop.tasks.add", "id": "7"})
        async with asyncio.timeout(20):
            await t.run_until_idle(15)
        await until(lambda: _has_one(channel), "the follower is a dead letter")
        [letter] = await drain(t.url, "celery.dead")
        assert letter.headers["task"] == "mail"
        assert json.loads(letter.body)[0] == [3]


async def _has_one(channel: AbstractChannel) -> bool:
    return await count(channel, "celery.dead") == 1


async def test_a_deadline_of_celery_is_for_the_start() -> None:
    """A task that has begun may ask other jobs after it."""
    app, asked = App("shop"), []

    @app.job(queue="prices")
    async def price(x: int) -> int:
        return x * 100

    @app.job(queue=Queue("celery", foreign=True), body=CeleryTask, name="shop.tasks.add")
    async def add(ctx: Context, x: int, y: int) -> int:
        assert ctx.deadline is not None
        t._clock.advance(1)
        assert t.now > ctx.deadline
        asked.append(await price.request(x))
        return 1

    async with app.testing() as t, stranger(t.url) as channel:
        expires = datetime.fromtimestamp(t.now + 0.5, UTC).isoformat()
        await send(channel, "expires", expires=expires)
        await t.run_until_idle()
    assert asked == [200]


async def test_a_task_is_requested_from_a_worker_of_amqpjobs() -> None:
    """Which answers as Celery's: with the value, or the error that the app knows."""
    app = App("shop", exceptions=[LookupError], retry=Retry(attempts=1))

    @app.job(queue=Queue("celery", foreign=True), body=CeleryTask, name="shop.tasks.find")
    async def find(word: str) -> dict[str, int]:
        if not word:
            raise LookupError("no word")
        return {word: len(word)}

    tasks = CeleryTasks(app)
    async with app.testing(raise_errors=False) as t:
        assert await tasks.request_task("shop.tasks.find", ("ab",)) == {"ab": 2}
        with pytest.raises(LookupError, match="no word"):
            await tasks.request_task("shop.tasks.find", kwargs={"word": ""})
        sent = await tasks.send_task("shop.tasks.find", ("abc",))
        await t.run_until_idle()
        assert sent in [run.id for run in t.runs()]


@pytest.mark.parametrize(
    "options",
    [
        {"countdown": 1, "eta": datetime.now(UTC)}, {"countdown": -1}, {"countdown": "1"},
        {"eta": datetime(2030, 1, 1)}, {"expires": 0}, {"time_limit": 0},
        {"task_id": "x" * 256}, {"headers": {"x": [1]}}, {"timeout": 0},
    ],
)  # fmt: skip
async def test_options_that_no_task_can_have(options: Any) -> None:
    """They are refused before anything is sent."""
    app = App("shop")
    async with app.testing():
        with pytest.raises(ConfigurationError):
            await CeleryTasks(app).send_task("shop.tasks.find", (), **options)
        with pytest.raises(ConfigurationError):
            await CeleryTasks(app).send_task("shop.tasks.find", "abc")
        with pytest.raises(InvalidArguments):
            await CeleryTasks(app).send_task("shop.tasks.find", (object(),))
