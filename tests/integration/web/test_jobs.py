"""Enqueueing over HTTP: what is accepted is in the queue; what is refused says why, no values."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from amqpjobs import App
from amqpjobs.jobs.message.ids import keyed_id
from tests.integration.web.conftest import shop_at
from tests.support.amqp import count, delete_queue, drain, stranger, take
from tests.support.brokers.broker_server import VirtualHost
from tests.support.web import JSON, served

ORDER = {"id": 7, "email": "ada@example.org"}


async def test_a_job_is_accepted_and_in_its_queue(shop: App, broker: VirtualHost) -> None:
    """202, where to look and when; the message is what `later` would have sent."""
    async with served(shop) as client:
        answer = await client.post("/jobs/send_receipt", json=ORDER)
    assert answer.status_code == 202
    body = answer.json()
    assert body["job"] == "send_receipt"
    assert body["queue"] == "receipts"
    assert body["derived"] is False
    assert body["links"] == {
        "status": f"/jobs/{body['id']}", "events": f"/jobs/{body['id']}/events"
    }  # fmt: skip
    assert answer.headers["Location"] == f"/jobs/{body['id']}"
    assert answer.headers["Retry-After"] == "1"
    message = await take(broker.url, "receipts")
    assert message.message_id == body["id"]
    assert message.type == "send_receipt"
    assert message.content_type == "application/json"
    assert message.delivery_mode == 2
    assert json.loads(message.body) == ORDER


async def test_headers_are_in_the_query(shop: App, broker: VirtualHost) -> None:
    """As often as there are headers; those that are not ours to send are refused."""
    async with served(shop) as client:
        query = "header=tenant%3Dacme&header=sum%3D1%2B1%3D2&tag=a&tag=b"
        answer = await client.post(f"/jobs/send_receipt?{query}", json=ORDER)
        assert answer.status_code == 202, answer.text
        for wrong in ("header=tenant", "header=x-own%3D1", "header=amqpjobs-due%3D1", "tag="):
            refused = await client.post(f"/jobs/send_receipt?{wrong}", json=ORDER)
            assert refused.status_code == 422
            assert refused.json()["reason"] == "invalid-options"
    message = await take(broker.url, "receipts")
    assert message.headers["amqpjobs-tags"] == ["a", "b"]
    own = {name: message.headers[name] for name in ("tenant", "sum")}
    assert own == {"tenant": "acme", "sum": "1+1=2"}


async def test_options_are_the_query(shop: App, broker: VirtualHost) -> None:
    """Priority, delay and expiry as in `with_options`."""
    async with served(shop) as client:
        urgent = await client.post("/jobs/urgent?priority=high&expires=60", json=1)
        later = await client.post("/jobs/urgent?delay=3600", json=2)
    assert urgent.json()["queue"] == "lanes.high"
    assert later.status_code == 202
    message = await take(broker.url, "lanes.high")
    deadline = int(str(message.headers["amqpjobs-deadline"]))
    assert abs(deadline / 1000 - time.time() - 60) < 10
    async with stranger(broker.url) as channel:
        assert await count(channel, "lanes") == 0, "it waits in the delays"


@pytest.mark.parametrize(
    ("path", "body", "where"),
    [
        ("send_receipt", {"id": 0, "email": "a"}, "id"),
        ("send_receipt", {"id": 7}, "email"),
        ("send_receipt", "text", "body"),
        ("add", {"a": 1, "c": 2}, "c"),
        ("add", {}, "a"),
    ],
)
async def test_arguments_that_do_not_fit_are_named(
    client: httpx.AsyncClient, path: str, body: Any, where: str
) -> None:
    """422 with each place and its reason, as problem details."""
    answer = await client.post(f"/jobs/{path}", json=body)
    assert answer.status_code == 422
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert problem["reason"] == "invalid-arguments"
    assert where in [each["where"] for each in problem["errors"]]
    assert all(each["problem"] for each in problem["errors"])


async def test_no_value_comes_back_with_a_refusal(client: httpx.AsyncClient) -> None:
    """They may be secrets, and answers are logged by others."""
    body = {"id": "hunter2", "email": 5, "secret": {"key": "hunter2"}}
    answer = await client.post("/jobs/send_receipt", json=body)
    assert answer.status_code == 422
    assert "hunter2" not in answer.text


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[1,", b"nul"])
async def test_what_is_not_json_is_refused(client: httpx.AsyncClient, body: bytes) -> None:
    """As arguments that do not fit."""
    answer = await client.post("/jobs/send_receipt", content=body, headers=JSON)
    assert answer.status_code == 422
    assert answer.json()["reason"] == "invalid-arguments"


@pytest.mark.parametrize(
    "query", ["priority=none", "priority=3", "delay=-1", "delay=nan", "delay=1e300", "expires=0",
              "expires=inf", "delay=soon", "expires=-5"]
)  # fmt: skip
async def test_options_that_cannot_be_are_refused(client: httpx.AsyncClient, query: str) -> None:
    """422, and nothing is enqueued."""
    answer = await client.post(f"/jobs/urgent?{query}", json=1)
    assert answer.status_code == 422, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"


async def test_an_unknown_job_is_not_found(client: httpx.AsyncClient) -> None:
    """404, saying which there are."""
    answer = await client.post("/jobs/send_recipt", json=ORDER)
    assert answer.status_code == 404
    assert answer.json()["reason"] == "unknown-job"
    assert "send_receipt" in answer.json()["detail"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ],
)
@pytest.mark.parametrize("body", [b"{}", b""])
async def test_a_body_that_does_not_say_json_is_refused(
    client: httpx.AsyncClient, headers: dict[str, str], body: bytes
) -> None:
    """415, even without a body: so no page elsewhere can post by a browser without asking."""
    answer = await client.post("/jobs/nothing", content=body, headers=headers)
    assert answer.status_code == 415
    assert answer.headers["Accept-Post"] == "application/json"


async def test_a_body_that_says_it_is_too_large_is_not_read(broker_43: VirtualHost) -> None:
    """413 by its Content-Length; nothing of it is taken in."""
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        for _ in range(1000):
            taken += 1000
            yield b"x" * 1000

    async with served(shop_at(broker_43.url, web_max_body=5000)) as client:
        headers = {**JSON, "Content-Length": "1000000"}
        answer = await client.post("/jobs/send_receipt", content=endless(), headers=headers)
    assert answer.status_code == 413
    assert taken == 0


async def test_a_body_without_a_length_is_counted(broker_43: VirtualHost) -> None:
    """413 as soon as it is too large: what comes after is not asked for."""
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        for _ in range(1000):
            taken += 1000
            yield b"x" * 1000

    async with served(shop_at(broker_43.url, web_max_body=5000)) as client:
        answer = await client.post("/jobs/send_receipt", content=endless(), headers=JSON)
    assert answer.status_code == 413
    assert answer.json()["reason"] == "too-large"
    assert taken <= 7000


async def test_the_limit_is_that_of_messages_unless_said_otherwise(broker_43: VirtualHost) -> None:
    """A body that is just as large as allowed is taken."""
    fits = json.dumps({**ORDER, "secret": ""}).encode()
    body = json.dumps({**ORDER, "secret": "x" * (2000 - len(fits))}).encode()
    assert len(body) == 2000
    async with served(shop_at(broker_43.url, max_message_size=2000)) as client:
        taken = await client.post("/jobs/send_receipt", content=body, headers=JSON)
        refused = await client.post("/jobs/send_receipt", content=body + b" ", headers=JSON)
    assert (taken.status_code, refused.status_code) == (202, 413)


async def test_an_idempotency_key_makes_the_id(shop_43: App, broker_43: VirtualHost) -> None:
    """The same key gives the same id, for this job; and says so. Both are enqueued."""
    async with served(shop_43) as client:
        first, again, other = [
            (await client.post("/jobs/add", json={"a": 1}, headers={"Idempotency-Key": key})).json()
            for key in ("one", "one", "two")
        ]
        elsewhere = await client.post(
            "/jobs/send_receipt", json=ORDER, headers={"Idempotency-Key": "one"}
        )
    assert first["id"] == again["id"]
    assert first["id"] == keyed_id(shop_43.name, "add", "one")  # as of `enqueue --key`
    assert first["derived"] is True
    assert uuid.UUID(first["id"]).version == 5
    assert len({first["id"], other["id"], elsewhere.json()["id"]}) == 3
    ids = [message.message_id for message in await drain(broker_43.url, "receipts")]
    assert ids.count(first["id"]) == 2


@pytest.mark.parametrize("key", ["", "   ", "x" * 256])
async def test_a_key_that_is_none_is_refused(client: httpx.AsyncClient, key: str) -> None:
    """An empty one would make all such requests the same job."""
    answer = await client.post("/jobs/add", json={"a": 1}, headers={"Idempotency-Key": key})
    assert answer.status_code == 422


async def test_many_at_once_are_all_there(shop: App, broker: VirtualHost) -> None:
    """200 concurrent requests: 200 ids, 200 messages."""
    async with served(shop) as client:
        answers = await asyncio.gather(
            *(client.post("/jobs/add", json={"a": n}) for n in range(200))
        )
    ids = {answer.json()["id"] for answer in answers}
    assert len(ids) == 200
    messages = await drain(broker.url, "receipts")
    assert {message.message_id for message in messages} == ids
    assert sorted(json.loads(m.body)["a"] for m in messages) == list(range(200))


async def test_schemas_describe_every_job(client: httpx.AsyncClient) -> None:
    """Queues, arguments, results: what a caller in another language needs."""
    jobs = {each["name"]: each for each in (await client.get("/jobs/schemas")).json()}
    assert set(jobs) == {"send_receipt", "add", "nothing", "urgent", "fail"}
    assert jobs["urgent"]["priorities"] == ["high", "low"]
    assert jobs["send_receipt"]["result"] == {"type": "string"}
    assert jobs["send_receipt"]["description"] == "Send a receipt."
    assert jobs["add"]["arguments"]["required"] == ["a"]
    one = await client.get("/jobs/schemas/add")
    assert one.json() == jobs["add"]
    assert (await client.get("/jobs/schemas/none")).status_code == 404


async def test_a_queue_that_is_gone_is_declared_again(shop: App, broker: VirtualHost) -> None:
    """A broker that came back empty loses nothing that is enqueued now."""
    async with served(shop) as client:
        await client.post("/jobs/add", json={"a": 1})
        delete_queue(broker, "receipts")
        answer = await client.post("/jobs/add", json={"a": 2})
    assert answer.status_code == 202
    assert [json.loads(m.body)["a"] for m in await drain(broker.url, "receipts")] == [2]


async def test_a_queue_that_is_gone_is_unavailable(broker: VirtualHost) -> None:
    """Where it may not be declared: 503, with the id that the job would have had."""
    shop = shop_at(broker.url)
    async with served(shop):
        pass
    shop.configure(declare_topology=False)
    async with served(shop) as client:
        await client.post("/jobs/add", json={"a": 1})
        delete_queue(broker, "receipts")
        answer = await client.post("/jobs/add", json={"a": 2})
    assert answer.status_code == 503
    assert answer.json()["reason"] == "no-queue"
    assert answer.headers["Retry-After"]


async def test_a_full_queue_is_unavailable(shop: App, broker: VirtualHost) -> None:
    """503 by RabbitMQ's `reject-publish`; the job is stored nowhere."""
    path = f"/policies/{broker.name}/full"
    async with served(shop) as client:
        await client.post("/jobs/add", json={"a": 1})
        broker.server.api(
            "PUT",
            path,
            {"pattern": "^receipts$", "definition": {"max-length": 1}, "apply-to": "queues"},
        )
        answers = [await client.post("/jobs/add", json={"a": n}) for n in range(50)]
    refused = [answer for answer in answers if answer.status_code != 202]
    assert refused, "the queue never was full"
    assert {answer.status_code for answer in refused} == {503}
    assert {answer.json()["reason"] for answer in refused} == {"queue-full"}


async def test_a_broker_that_is_away_is_unavailable(unused_tcp_port: int) -> None:
    """503 when the confirm has not come in time; the address is not in it."""
    shop = shop_at(f"amqp://user:hunter2@127.0.0.1:{unused_tcp_port}/", publish_timeout=0.3)
    async with served(shop) as client:
        answer = await client.post("/jobs/add", json={"a": 1})
        queues = await client.get("/queues")
        ready = await client.get("/readyz")
        alive = await client.get("/healthz")
    assert (answer.status_code, queues.status_code, ready.status_code) == (503, 503, 503)
    assert answer.json()["reason"] == "not-sent"
    assert answer.headers["Retry-After"]
    assert queues.json()["reason"] == "broker-away"
    assert ready.json()["reasons"] == ["RabbitMQ is away"]
    assert alive.status_code == 200
    for each in (answer, queues, ready):
        assert "127.0.0.1" not in each.text
        assert "user" not in each.text
