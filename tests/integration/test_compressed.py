"""Compressed bodies on real brokers: any worker undoes them, and replies to whoever can."""

import asyncio
import gzip
import json
from pathlib import Path

import pytest

from amqpjobs import Context
from tests.support.amqp import count, publish, stranger, take
from tests.support.brokers.broker_server import VirtualHost
from tests.support.programs import command, environment
from tests.support.waiting import until
from tests.support.workers import app_at, working

LONG = "x" * 50_000


@pytest.mark.parametrize("workers_setting", ["off", "gzip"])
async def test_a_request_and_its_reply_are_undone(
    broker: VirtualHost, workers_setting: str
) -> None:
    """A worker undoes it whatever its own setting; replies are compressed if both do."""
    asking = app_at(broker.url, compress="gzip", compress_above=1000)
    serving = app_at(broker.url, compress=workers_setting, compress_above=1000)

    async def job(ctx: Context, text: str) -> str:
        assert ctx.message.content_encoding == "gzip"
        return text

    jobs = [app.job(queue="work", name="job")(job) for app in (asking, serving)]
    async with asking.lifespan(), working(serving):
        assert await jobs[0].request(LONG) == LONG


async def test_a_foreign_caller_is_not_sent_what_it_may_not_read(broker: VirtualHost) -> None:
    """It has not said that it can undo it. What it compresses itself is undone."""
    app = app_at(broker.url, compress="gzip", compress_above=1000)

    @app.job(queue="work")
    async def job(text: str) -> str:
        return text

    async with working(app), stranger(broker.url) as channel:
        replies = await channel.declare_queue("replies", auto_delete=True)
        body = gzip.compress(json.dumps(LONG).encode())
        await publish(
            channel, "work", body, type="job", content_encoding="gzip", reply_to=replies.name,
            correlation_id="1",
        )  # fmt: skip

        async def answered() -> bool:
            return await count(channel, "replies") == 1

        await until(answered, "it is answered")
        reply = await replies.get()
    assert reply.content_encoding is None
    assert json.loads(reply.body) == LONG


async def test_a_dead_letter_is_shown_as_it_was(broker: VirtualHost, tmp_path: Path) -> None:
    """By the commands, which know nothing of the setting; the letter itself is as it came."""
    app = app_at(broker.url, compress="gzip", compress_above=0)

    @app.job(queue="work", name="quick")
    async def job(n: int) -> None: ...

    async with app.lifespan(), stranger(broker.url) as channel:
        await app.enqueue(job.message(7))
        env = environment(broker.url, tmp_path)
        applied = await asyncio.to_thread(command, "topology", "apply", env=env)
        assert applied.returncode == 0, applied
        message = await take(broker.url, "work")
        assert message.content_encoding == "gzip"
        dead = {"reason": "failed", "message": "no"}
        await publish(
            channel, "work.dead", message.body, type="quick", content_encoding="gzip",
            message_id="seven", headers={"amqpjobs-error": dead},
        )  # fmt: skip
    shown = await asyncio.to_thread(command, "dead", "show", "seven", "--json", env=env)
    assert shown.returncode == 0, shown
    [letter] = json.loads(shown.stdout)
    assert (letter["body"], letter["json"]) == (7, True)
