"""Webhooks as their senders send them: GitHub, Slack, Stripe, Standard Webhooks."""

import json
import time
from base64 import b64encode
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
import stripe
from pydantic import BaseModel
from slack_sdk.signature import SignatureVerifier
from standardwebhooks import Webhook

from amqpjobs import GITHUB, SLACK, STANDARD_WEBHOOKS, STRIPE, App, Retry
from amqpjobs.jobs.webhook import sign
from tests.support.amqp import drain
from tests.support.brokers.broker_server import VirtualHost
from tests.support.waiting import until
from tests.support.web import JSON, served
from tests.support.workers import app_at, working

SECRET = "a secret of some length"
STANDARD_SECRET = "whsec_" + b64encode(b"24 bytes that are random").decode()
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
PUSH = b'{"ref": "refs/heads/main", "after": "6113728f27ae82c7b1a177c8d03f9e96e0adf246"}'


class Push(BaseModel):
    ref: str


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GITHUB", "SLACK", "STRIPE"):
        monkeypatch.setenv(f"AMQPJOBS_HOOK_{name}_SECRET", SECRET)
    monkeypatch.setenv("AMQPJOBS_HOOK_STANDARD_SECRET", STANDARD_SECRET)


def receiver(url: str, **settings: Any) -> App:
    app = app_at(url, **{"store_url": "sqlite:////nowhere/status.db", **settings})

    @app.job(queue="hooks", retry=Retry(attempts=1))
    async def on_push(event: str, push: Push, hop: int = 0) -> None:
        raise ValueError("not today")

    @app.job(queue="hooks")
    async def on_any(event: dict[str, Any]) -> None: ...

    headers = {"event": "X-GitHub-Event", "hop": "X-Hop"}
    app.hook(
        "github", job=on_push, signing=GITHUB, headers=headers, events=["push", "pull_request"]
    )
    app.hook("slack", job=on_any, signing=SLACK)
    app.hook("stripe", job=on_any, signing=STRIPE, events="invoice.paid")
    app.hook("standard", job=on_any, signing=STANDARD_WEBHOOKS)
    return app


def by_github(
    body: bytes, event: str = "push", delivery: str = "72d3162e", **more: str
) -> dict[str, Any]:
    digest = sign(SECRET.encode(), body).hex()
    headers = {
        "X-Hub-Signature-256": f"sha256={digest}",
        "X-GitHub-Delivery": delivery,
        "X-GitHub-Event": event,
        **(more or JSON),
    }
    return {"url": "/hooks/github", "content": body, "headers": headers}


def by_slack(body: bytes, kind: dict[str, str] = JSON, moment: int = 0) -> dict[str, Any]:
    stamp = str(moment or round(time.time()))
    signature = SignatureVerifier(SECRET).generate_signature(timestamp=stamp, body=body)
    headers = {"X-Slack-Request-Timestamp": stamp, "X-Slack-Signature": signature or "", **kind}
    return {"url": "/hooks/slack", "content": body, "headers": headers}


def by_stripe(body: bytes, moment: int = 0) -> dict[str, Any]:
    stamp = str(moment or round(time.time()))
    digest = stripe.WebhookSignature._compute_signature(f"{stamp}.{body.decode()}", SECRET)
    headers = {"Stripe-Signature": f"t={stamp},v1={digest}", **JSON}
    return {"url": "/hooks/stripe", "content": body, "headers": headers}


async def sent(client: httpx.AsyncClient, *requests: dict[str, Any]) -> list[httpx.Response]:
    return [await client.post(**request) for request in requests]


async def test_github(broker: VirtualHost) -> None:
    """The event's name is an argument; a ping and events of others are no jobs, and no errors."""
    async with served(receiver(broker.url)) as client:
        ping, star, push = await sent(
            client,
            by_github(b'{"zen": "Keep it logically awesome."}', "ping", "1"),
            by_github(b'{"action": "created"}', "star", "2"),
            by_github(PUSH, "push", "3"),
        )
        unsigned = by_github(PUSH, "ping", "4")
        unsigned["headers"]["X-Hub-Signature-256"] = "sha256=" + "0" * 64
        [stranger] = await sent(client, unsigned)
    assert (ping.status_code, ping.json()) == (200, {"ignored": "ping"})
    assert (star.status_code, star.json()) == (200, {"ignored": "star"})
    assert (push.status_code, stranger.status_code) == (202, 401)
    [message] = await drain(broker.url, "hooks")
    assert message.body == b'{"event":"push","push":' + PUSH + b"}"


async def test_github_as_a_form(broker_43: VirtualHost) -> None:
    """The other content type that it offers: the JSON is in the field `payload`."""
    body = urlencode({"payload": PUSH.decode()}).encode()
    async with served(receiver(broker_43.url)) as client:
        [answer] = await sent(client, by_github(body, **FORM))
        [wrong] = await sent(client, by_github(b"payload=%ff", delivery="2", **FORM))
        [no_form] = await sent(client, by_github(b"nothing", delivery="3", **FORM))
    assert (answer.status_code, wrong.status_code, no_form.status_code) == (202, 422, 422)
    [message] = await drain(broker_43.url, "hooks")
    assert json.loads(message.body) == {"event": "push", "push": json.loads(PUSH)}


async def test_headers_are_checked_like_all_arguments(broker_43: VirtualHost) -> None:
    """And cannot break out of their place, nor can a body."""
    async with served(receiver(broker_43.url)) as client:
        good, no_number, twice, break_out = (
            by_github(PUSH, delivery="1", **JSON, **{"X-Hop": "7"}),
            by_github(PUSH, delivery="2", **JSON, **{"X-Hop": "seven"}),
            by_github(PUSH, delivery="3"),
            by_github(PUSH + b',"hop":9', delivery="4"),
        )
        twice["headers"] = [*twice["headers"].items(), ("X-Hop", "1"), ("X-Hop", "2")]
        answers = await sent(client, good, no_number, twice, break_out)
    assert [answer.status_code for answer in answers] == [202, 422, 422, 422]
    [message] = await drain(broker_43.url, "hooks")
    assert json.loads(message.body)["hop"] == "7"


async def test_slack(broker_43: VirtualHost) -> None:
    """The challenge is answered; events come once, whenever they are sent again; commands and
    interactions are forms. It wants status 200 and shows what is in the body."""
    now = round(time.time())
    event = b'{"type": "event_callback", "event_id": "Ev08MFMKH6", "event": {"type": "message"}}'
    command = b"command=%2Fweather&text=94070&trigger_id=13345224609.738474920.8088930838d88f008e0"
    async with served(receiver(broker_43.url)) as client:
        challenge, *others = await sent(
            client,
            by_slack(b'{"token": "J", "challenge": "3eZbrw1aBm2rZgR", "type": "url_verification"}'),
            by_slack(event, moment=now - 60),
            by_slack(event, moment=now),
            by_slack(command, FORM),
            by_slack(urlencode({"payload": '{"type": "block_actions"}'}).encode(), FORM),
        )
        [old] = await sent(client, by_slack(event, moment=now - 400))
    assert challenge.text == "3eZbrw1aBm2rZgR"
    assert challenge.headers["Content-Type"].startswith("text/plain")
    assert {(answer.status_code, answer.content) for answer in others} == {(200, b"")}
    assert old.status_code == 401
    bodies = [json.loads(message.body) for message in await drain(broker_43.url, "hooks")]
    assert [body.get("type") or body["command"] for body in bodies] == [
        "event_callback", "/weather", "block_actions"
    ]  # fmt: skip


async def test_stripe(broker_43: VirtualHost) -> None:
    """It tries again, with another signature, until it hears that all is well: one job."""
    now = round(time.time())
    body = b'{"id": "evt_1NG8Du2eZvKYlo2CUI79vXWy", "object": "event", "type": "invoice.paid"}'
    async with served(receiver(broker_43.url)) as client:
        first, again, other = await sent(
            client,
            by_stripe(body, now - 60),
            by_stripe(body, now),
            by_stripe(b'{"id": "evt_2", "type": "invoice.created"}'),
        )
    assert [answer.status_code for answer in (first, again, other)] == [202, 200, 200]
    assert first.json() == again.json()
    assert other.json() == {"ignored": "invoice.created"}
    assert len(await drain(broker_43.url, "hooks")) == 1


async def test_standard_webhooks(broker_43: VirtualHost) -> None:
    """As its own library signs."""
    from datetime import UTC, datetime

    moment = datetime.now(UTC)
    body = '{"type": "contact.created", "data": {"id": "1f81eb52"}}'
    headers = {
        "webhook-id": "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W",
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": Webhook(STANDARD_SECRET).sign(
            "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W", moment, body
        ),
        **JSON,
    }
    request = {"url": "/hooks/standard", "content": body, "headers": headers}
    async with served(receiver(broker_43.url)) as client:
        answers = await sent(client, request, request)
    assert [answer.status_code for answer in answers] == [202, 200]
    [message] = await drain(broker_43.url, "hooks")
    assert message.body == body.encode()


async def test_what_comes_again_when_its_job_has_failed_runs_again(
    broker_43: VirtualHost, tmp_path: Path
) -> None:
    """GitHub's button "Redeliver" sends the same id. In another process, too, and as often as it
    has failed; while the job is on its way, there is one."""
    store = f"sqlite:///{tmp_path}/status.db"
    ids = []
    for _ in range(3):
        app = receiver(broker_43.url, store_url=store)
        async with served(app, recorder=True) as client:
            first, again = await sent(client, by_github(PUSH), by_github(PUSH))
            assert (first.status_code, again.status_code) == (202, 200)
            job_id = first.json()["id"]
            assert again.json()["id"] == job_id
            ids.append(job_id)
            async with working(app):

                async def failed(job_id: str = job_id, app: App = app) -> bool:
                    status = await app.status(job_id)
                    return status is not None and status.state == "failed"

                await until(failed, "the job has failed")
    assert len(set(ids)) == 3


def test_a_secret_that_is_not_base64_does_not_start(
    monkeypatch: pytest.MonkeyPatch, broker_43: VirtualHost
) -> None:
    """And is not shown."""
    from amqpjobs.errors import ConfigurationError
    from amqpjobs.web.api import create_api

    monkeypatch.setenv("AMQPJOBS_HOOK_STANDARD_SECRET", "whsec_this is no base64 at all")
    with pytest.raises(ConfigurationError, match="is not base64") as caught:
        create_api(receiver(broker_43.url))
    assert "at all" not in str(caught.value)
