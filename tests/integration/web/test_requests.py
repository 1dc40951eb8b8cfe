"""Asking over HTTP: the result, the error, or the end of patience; and who hangs up is gone."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from amqpjobs import App
from tests.integration.web.conftest import Teapot, shop_at
from tests.support.brokers.broker_server import VirtualHost
from tests.support.programs import Ledger, consuming, environment
from tests.support.waiting import PATIENCE, until
from tests.support.web import JSON, served, serving
from tests.support.workers import working


@asynccontextmanager
async def asked(app: App) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an app, with a worker beside it."""
    async with working(app), served(app) as client:
        yield client


async def test_the_result_is_the_answer(shop: App) -> None:
    """200 and the JSON of the result; a job that returns nothing answers null."""
    async with asked(shop) as client:
        sent = await client.post(
            "/jobs/send_receipt/request", json={"id": 7, "email": "ada@example.org"}
        )
        added = await client.post("/jobs/add/request?timeout=10", json={"a": 2, "b": 3})
        nothing = await client.post("/jobs/nothing/request", json={})
        urgent = await client.post("/jobs/urgent/request?priority=high", json=9)
    assert [each.status_code for each in (sent, added, nothing, urgent)] == [200] * 4
    assert [each.json() for each in (sent, added, nothing, urgent)] == [
        "sent to ada@example.org", 5, None, 9
    ]  # fmt: skip
    assert sent.headers["Content-Type"] == "application/json"
    assert sent.headers["X-Amqpjobs-Id"]


async def test_many_ask_at_once(shop: App) -> None:
    """Everybody gets the answer to the own question."""
    async with asked(shop) as client:
        answers = await asyncio.gather(
            *(client.post("/jobs/add/request", json={"a": n, "b": 0}) for n in range(100))
        )
    assert [answer.json() for answer in answers] == list(range(100))


async def test_a_failure_is_named(shop_43: App) -> None:
    """500 with the type and the message of the error, as problem details."""
    async with asked(shop_43) as client:
        answer = await client.post("/jobs/fail/request", json="no paper")
    assert answer.status_code == 500
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert problem["reason"] == "job-failed"
    assert problem["error"] == "ValueError"
    assert problem["detail"] == "no paper"
    assert problem["attempt"] == 1
    assert problem["id"]


async def test_an_exception_that_the_app_knows_is_a_failure_too(broker_43: VirtualHost) -> None:
    """Whatever class it was registered as."""
    app = App("teapots", settings=shop_at(broker_43.url).settings, exceptions=[Teapot])

    @app.job(queue="kitchen")
    async def brew() -> None:
        raise Teapot("short and stout")

    from amqpjobs import Retry

    app.client.runtime.registry.retry = Retry(attempts=1)
    async with asked(app) as client:
        answer = await client.post("/jobs/brew/request", json={})
    assert answer.status_code == 500
    assert answer.json()["error"] == "tests.integration.web.conftest.Teapot"
    assert answer.json()["detail"] == "short and stout"


async def test_nobody_answers_in_time(shop: App) -> None:
    """504 when the patience is over."""
    async with served(shop) as client:
        # So that the patience is for the answer alone.
        await (await shop.client.publisher()).replies.ready("add", PATIENCE, PATIENCE)
        answer = await client.post("/jobs/add/request?timeout=0.2", json={"a": 1})
    assert answer.status_code == 504
    assert answer.json()["reason"] == "reply-timeout"
    assert answer.json()["sent"] is True


@pytest.mark.parametrize("timeout", ["0", "-1", "301", "nan", "inf", "soon"])
async def test_a_patience_that_cannot_be_is_refused(
    client: httpx.AsyncClient, timeout: str
) -> None:
    """422; waiting for ever is not on offer."""
    answer = await client.post(f"/jobs/add/request?timeout={timeout}", json={"a": 1})
    assert answer.status_code == 422


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        ("/jobs/none/request", b"{}", JSON, 404),
        ("/jobs/add/request", b"{}", JSON, 422),
        ("/jobs/add/request", b"{}", {}, 415),
        ("/jobs/urgent/request?priority=none", b"1", JSON, 422),
    ],
)
async def test_what_cannot_be_asked_is_refused(
    client: httpx.AsyncClient, path: str, body: bytes, headers: dict[str, str], status: int
) -> None:
    """As in enqueueing."""
    answer = await client.post(path, content=body, headers=headers)
    assert answer.status_code == status


def test_who_hangs_up_takes_the_job_back(broker: VirtualHost, tmp_path: Path) -> None:
    """The worker is told, and cancels what runs."""
    env = environment(broker.url, tmp_path)
    ledger = Ledger(env)
    with consuming("work", env=env), serving(env=env) as (web, url):
        place = urlsplit(url)
        with socket.create_connection((place.hostname, place.port), timeout=10) as connection:
            connection.sendall(
                b"POST /jobs/hold/request?timeout=60 HTTP/1.1\r\nHost: localhost\r\n"
                b"Content-Type: application/json\r\nContent-Length: 1\r\n\r\n7"
            )
            ledger.wait_for("started", [7])
        ledger.wait_for("cancelled", [7])
        web.wait_for("request", path="/jobs/hold/request")
        assert not [line for line in web.lines if line["level"] == "error"]


async def test_a_connection_that_is_lost_meanwhile_is_told(shop: App, broker: VirtualHost) -> None:
    """502: the answer cannot come any more, and the job may run."""
    from tests.support.amqp import close_connections

    async with served(shop) as client:
        question = asyncio.ensure_future(client.post("/jobs/add/request", json={"a": 1}))

        async def closed() -> Any:
            return close_connections(broker, "publish") or question.done()

        await until(closed, "the connection is closed")
        answer = await question
    assert answer.status_code == 502, answer.text
    assert answer.json()["reason"] == "reply-lost"
