"""Webhooks over HTTP: a signed request is a job, once; anything else is no."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from amqpjobs import App
from amqpjobs.client.client import registry_of
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.webhook import GITHUB, sign
from amqpjobs.web import replays as ids
from amqpjobs.web.api import create_api
from amqpjobs.web.replays import Replays
from tests.integration.web.conftest import shop_at
from tests.support.amqp import delete_queue, drain
from tests.support.brokers.broker_server import VirtualHost
from tests.support.web import JSON, served

SECRET = "a secret of some length"
BODY = b'{"id": 7, "email": "ada@example.org"}'

Declare = Callable[..., App]


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMQPJOBS_HOOK_ORDERS_SECRET", SECRET)
    monkeypatch.setenv("AMQPJOBS_HOOK_GITHUB_SECRET", SECRET)


def hooked(url: str, **settings: Any) -> App:
    """The shop with two hooks, and a token, which hooks do not ask for."""
    app = shop_at(url, web_token="t" * 16, **settings)
    job = registry_of(app).find("send_receipt")
    from amqpjobs.jobs.job import Job

    app.hook("orders", job=Job(job))
    app.hook("github", job=Job(job), signing=GITHUB)
    return app


@pytest.fixture
def app(broker_43: VirtualHost) -> App:
    return hooked(broker_43.url)


def signed(body: bytes = BODY, secret: str = SECRET, age: float = 0) -> dict[str, str]:
    moment = str(round(time.time() - age))
    digest = sign(secret.encode(), moment.encode() + b"." + body).hex()
    return {
        **JSON, "X-Amqpjobs-Timestamp": moment, "X-Amqpjobs-Signature": f"sha256={digest}"
    }  # fmt: skip


def by_github(delivery: str, body: bytes = BODY) -> dict[str, str]:
    digest = sign(SECRET.encode(), body).hex()
    return {**JSON, "X-Hub-Signature-256": f"sha256={digest}", "X-GitHub-Delivery": delivery}


async def post(client: httpx.AsyncClient, headers: dict[str, str], body: bytes = BODY) -> Any:
    return await client.post("/hooks/orders", content=body, headers=headers)


async def test_a_signed_request_is_a_job(broker: VirtualHost) -> None:
    """202, with no token; the body is the job's argument, to the byte."""
    async with served(hooked(broker.url)) as client:
        answer = await post(client, signed())
    assert answer.status_code == 202
    [message] = await drain(broker.url, "receipts")
    assert message.body == BODY
    assert message.type == "send_receipt"
    assert message.message_id == answer.json()["id"]


async def test_all_that_is_wrong_looks_alike(app: App, broker_43: VirtualHost) -> None:
    """401 in the same words, whichever part it was; and nothing is enqueued."""
    other = signed(b'{"id": 8, "email": "eve@example.org"}')
    wrong = [
        JSON,
        signed(secret="another secret"),
        signed(age=301),
        signed(age=-310),
        other,
        signed() | {"X-Amqpjobs-Timestamp": "0"},
        signed() | {"X-Amqpjobs-Signature": "sha256=0"},
        by_github("1"),
    ]
    async with served(app) as client:
        answers = [await post(client, headers) for headers in wrong]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.text for answer in answers}) == 1
    assert await drain(broker_43.url, "receipts") == []


async def test_a_header_that_is_there_twice_proves_nothing(app: App) -> None:
    """Which of them would have been meant?"""
    headers = httpx.Headers(signed())
    twice = [*headers.multi_items(), ("X-Amqpjobs-Signature", headers["X-Amqpjobs-Signature"])]
    async with served(app) as client:
        answer = await client.post("/hooks/orders", content=BODY, headers=twice)
    assert answer.status_code == 401


async def test_a_replay_is_refused(app: App, broker_43: VirtualHost) -> None:
    """409 for the same request again, also in other letters; one job."""
    headers = signed()
    value = headers["X-Amqpjobs-Signature"].removeprefix("sha256=").upper()
    async with served(app) as client:
        answers = [
            await post(client, headers),
            await post(client, headers),
            await post(client, headers | {"X-Amqpjobs-Signature": f"sha256={value}"}),
        ]
    assert [answer.status_code for answer in answers] == [202, 409, 409]
    assert len(await drain(broker_43.url, "receipts")) == 1


async def test_a_replay_at_another_process_has_the_same_id(
    app: App, broker_43: VirtualHost
) -> None:
    """Which remembers nothing of the first: the id is what tells the two as one."""
    headers = signed()
    found = set()
    for each in (app, hooked(broker_43.url)):
        async with served(each) as client:
            found.add((await post(client, headers)).json()["id"])
    assert len(found) == 1
    ids = [message.message_id for message in await drain(broker_43.url, "receipts")]
    assert ids == [*found, *found]


async def test_github_is_known_by_its_delivery(app: App, broker_43: VirtualHost) -> None:
    """Two deliveries of the same body are two jobs; the same delivery is one, and no error: its
    sender may not have heard our answer."""
    async with served(app) as client:
        answers = [
            await client.post("/hooks/github", content=BODY, headers=by_github(each))
            for each in ("one", "two", "one")
        ]
    assert [answer.status_code for answer in answers] == [202, 202, 200]
    assert answers[0].json() == answers[2].json()
    assert len({m.message_id for m in await drain(broker_43.url, "receipts")}) == 2


async def test_a_secret_is_changed_without_a_gap(
    broker_43: VirtualHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old and new are good side by side, until the old one goes."""
    monkeypatch.setenv("AMQPJOBS_HOOK_ORDERS_SECRET", "the new secret, longer")
    monkeypatch.setenv("AMQPJOBS_HOOK_ORDERS_SECRET_2", SECRET)
    async with served(hooked(broker_43.url)) as client:
        both = [await post(client, signed(secret=s)) for s in (SECRET, "the new secret, longer")]
    monkeypatch.delenv("AMQPJOBS_HOOK_ORDERS_SECRET_2")
    async with served(hooked(broker_43.url)) as client:
        old = await post(client, signed(secret=SECRET))
    assert [answer.status_code for answer in both] == [202, 202]
    assert old.status_code == 401


async def test_what_was_not_enqueued_may_come_again(broker_43: VirtualHost) -> None:
    """The sender tries again after a 503; that is no replay."""
    app = hooked(broker_43.url)
    async with served(app):
        pass  # declares; below nobody may
    app.configure(declare_topology=False)
    headers = signed()
    async with served(app) as client:
        await post(client, signed(age=5))
        delete_queue(broker_43, "receipts")
        first = await post(client, headers)
        async with hooked(broker_43.url).lifespan():
            pass  # declares
        second = await post(client, headers)
    assert (first.status_code, second.status_code) == (503, 202)


async def test_arguments_that_do_not_fit_are_told_to_the_sender_only(app: App) -> None:
    """422 for a body that was signed; 401 for one that was not, whatever is in it."""
    bad = b'{"id": 0}'
    async with served(app) as client:
        known = await post(client, signed(bad), bad)
        stranger = await post(client, signed(BODY), bad)
    assert (known.status_code, stranger.status_code) == (422, 401)


async def test_a_body_that_is_too_large_is_refused_before_it_is_looked_at(
    broker_43: VirtualHost,
) -> None:
    """413, signed or not: strangers must not fill the memory."""
    async with served(hooked(broker_43.url, web_max_body=100)) as client:
        large = b" " * 101
        assert (await post(client, signed(large), large)).status_code == 413
        assert (await post(client, JSON, large)).status_code == 413


async def test_an_unknown_hook_is_not_found(app: App) -> None:
    """And a known one is no place to get from."""
    async with served(app) as client:
        assert (await client.post("/hooks/none", content=BODY, headers=JSON)).status_code == 404
        assert (await client.get("/hooks/orders")).status_code == 405


def test_a_hook_without_a_secret_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would refuse everything, and nobody would know why."""
    monkeypatch.delenv("AMQPJOBS_HOOK_ORDERS_SECRET")
    with pytest.raises(ConfigurationError, match="AMQPJOBS_HOOK_ORDERS_SECRET"):
        create_api(hooked("amqp://nowhere/"))


@pytest.mark.parametrize("variable", ["ORDERS_SECRET", "ORDERS_SECRET_2"])
def test_a_secret_that_could_be_guessed_does_not_start(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has seen one signed request can try guesses. The error says how to make one, and
    shows none."""
    monkeypatch.setenv(f"AMQPJOBS_HOOK_{variable}", "hunter2")
    with pytest.raises(ConfigurationError, match=f"{variable}.*openssl rand") as caught:
        create_api(hooked("amqp://nowhere/"))
    assert "hunter2" not in str(caught.value)


def test_a_secret_may_be_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """As the other secrets of a deployment."""
    monkeypatch.delenv("AMQPJOBS_HOOK_ORDERS_SECRET")
    monkeypatch.setenv("AMQPJOBS_SECRETS_DIR", str(tmp_path))
    (tmp_path / "amqpjobs_hook_orders_secret").write_text(f"{SECRET}\n")
    create_api(hooked("amqp://nowhere/"))


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Iterator[Replays]:
    monkeypatch.setattr(ids, "MOST", 3)
    return Replays()


def test_what_is_remembered_is_bounded(few: Replays) -> None:
    """The oldest go first, and what can pass no more."""
    now = time.time()
    assert few.add("old", now - 1)
    assert few.add("a", now + 100)
    assert len(few) == 1, "the window of the first is over"
    assert few.add("b", None)
    assert few.add("c", None)
    assert not few.add("a", now + 100)
    assert few.add("d", None)
    assert len(few) == 3
    assert few.add("a", now + 100)
