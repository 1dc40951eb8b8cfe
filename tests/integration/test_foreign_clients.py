"""Any AMQP client can ask a job, and can be asked: pika, and Node.js with amqplib."""

import pytest

from amqpjobs.errors import JobFailed
from tests.support.amqp import count, drain, stranger
from tests.support.brokers.broker_server import VirtualHost
from tests.support.foreign import node_answers, node_asks, pika_answers, pika_asks
from tests.support.workers import app_at, working

ASKERS = {"pika": pika_asks, "node": node_asks}
ANSWERERS = {"pika": pika_answers, "node": node_answers}
MANY = 50


@pytest.mark.parametrize("way", ["own", "direct"])
@pytest.mark.parametrize("client", ASKERS)
async def test_a_foreign_client_asks(broker: VirtualHost, client: str, way: str) -> None:
    """Over a queue of its own, and over RabbitMQ's direct reply-to: each question gets its own
    answer, and a failure says why. Whether the last reaches a direct address nobody can know, so
    that failure is a dead letter as well."""
    app = app_at(broker.url)

    @app.job(queue="work")
    async def double(n: int) -> int:
        if n == 7:
            raise ValueError("not seven")
        return n * 2

    async with app.lifespan(), working(app), stranger(broker.url) as channel:
        answers = await ASKERS[client](broker.url, "work", double.name, way, MANY)
        error = answers.pop("n7")
        assert error["type"] == "amqpjobs.error"
        assert error["body"] == {
            "error": "ValueError", "message": "not seven", "job": double.name, "attempt": 1
        }  # fmt: skip
        assert {k: v["body"] for k, v in answers.items()} == {
            f"n{n}": n * 2 for n in range(MANY) if n != 7
        }
        assert {v.get("type") for v in answers.values()} == {None}
        if way == "own":
            assert await count(channel, "work.dead") == 0
    if way == "direct":
        assert [letter.body for letter in await drain(broker.url, "work.dead")] == [b"7"]


@pytest.mark.parametrize("client", ANSWERERS)
async def test_a_foreign_client_answers(broker: VirtualHost, client: str) -> None:
    """A job of ours that another program runs, and a service that is not ours."""
    app = app_at(broker.url)

    @app.job(queue="work")
    async def double(n: int | None) -> int:
        raise AssertionError("another program runs it")

    async with app.lifespan(), ANSWERERS[client](broker.url, "work"):
        assert await double.request(21) == 42
        assert await app.request("work", {"a": [1]}) == {"a": [1]}
        assert await app.request("work", 4, returns=int) == 8
        with pytest.raises(JobFailed, match="null is nothing") as caught:
            await double.request(None)
        assert caught.value.error in ("PikaError", "NodeError")
