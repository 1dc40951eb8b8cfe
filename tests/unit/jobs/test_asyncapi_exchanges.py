"""The AsyncAPI document of an app with exchanges and foreign queues."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import BaseModel

from amqpjobs import App, Bytes, Context, Exchange, Queue, Retry
from amqpjobs.settings import load_settings
from tests.support.npm import package
from tests.unit.jobs.test_asyncapi import OFFICIAL, URL, references, resolved, validator

ORDERS = Exchange("orders", type="topic", alternate="lost")


class Order(BaseModel):
    """What an order event says."""

    order: int


class Paid(BaseModel):
    """Another one, with the first inside."""

    order: Order
    cents: int


def events_app() -> App:
    app = App("billing", settings=load_settings(url=URL), retry=Retry(attempts=3))
    app.publishes(ORDERS, "order.paid", Paid)
    app.publishes(ORDERS, "order.*")
    app.publishes(Exchange("news", type="fanout"), type=list[Order])

    @app.on(ORDERS, "order.placed", "order.paid", queue="invoices", timeout=30)
    async def invoice(ctx: Context, order: Order) -> None:
        """Write an invoice."""

    @app.on(ORDERS, "order.paid", queue=Queue("mails", priorities={"high": 2, "low": 1}),
            priority="high")  # fmt: skip
    async def mail(order: Order) -> None: ...

    @app.on(Exchange("files", type="headers"), {"format": "pdf"}, queue="pdfs", body=Bytes())
    async def store(file: bytes) -> None: ...

    @app.on(Exchange("amq.topic"), "#", queue=Queue("legacy", foreign=True, failed="reject"))
    async def import_(value: Any) -> None: ...

    return app


@pytest.fixture(scope="session")
def official() -> jsonschema.Draft7Validator:
    """AsyncAPI's own schema of a document of version 3.0."""
    schema: Path = package(*OFFICIAL) / "schemas" / "3.0.0.json"
    return jsonschema.Draft7Validator(json.loads(schema.read_text()))


@pytest.fixture
def document() -> dict[str, Any]:
    return events_app().asyncapi()


def test_it_is_valid_by_the_official_schema(
    document: dict[str, Any], official: jsonschema.Draft7Validator
) -> None:
    """Exchanges of all types, ours and others', and each reference leads somewhere."""
    official.validate(document)
    for reference in set(references(document)):
        assert resolved(document, reference) is not None


def test_a_key_of_an_exchange_is_a_channel(document: dict[str, Any]) -> None:
    """Once, with the messages of all that handle it or publish it."""
    channel = document["channels"]["orders.order.paid"]
    assert channel["address"] == "order.paid"
    assert channel["bindings"]["amqp"]["is"] == "routingKey"
    assert channel["bindings"]["amqp"]["exchange"] == {
        "name": "orders", "type": "topic", "durable": True, "autoDelete": False, "vhost": "vh/one"
    }  # fmt: skip
    assert set(channel["messages"]) == {"invoice.event", "mail.event", "orders.order.paid"}
    assert channel["x-amqpjobs"] == {"foreign": False, "alternate": "lost"}
    assert document["channels"]["files"]["address"] is None
    assert document["channels"]["files"]["x-amqpjobs"]["arguments"] == {
        "format": "pdf", "x-match": "all"
    }  # fmt: skip
    assert document["channels"]["amq.topic.#".replace("#", "_")]["x-amqpjobs"]["foreign"]
    assert document["channels"]["news"]["bindings"]["amqp"]["exchange"]["type"] == "fanout"


def test_handlers_receive_and_publishers_send(document: dict[str, Any]) -> None:
    """An operation for each pattern of a handler, and for each kind of event that is published."""
    operations = document["operations"]
    received = operations["invoice.orders.order.placed"]
    assert received["action"] == "receive"
    assert received["summary"] == "Write an invoice."
    assert received["x-amqpjobs"] == {"queue": "invoices", "timeout": 30, "attempts": 3}
    assert operations["invoice.orders.order.paid"]["channel"]["$ref"] == (
        "#/channels/orders.order.paid"
    )
    assert operations["mail.orders.order.paid"]["x-amqpjobs"]["queue"] == "mails.high"
    sent = {name: o for name, o in operations.items() if o["action"] == "send"}
    assert set(sent) == {"publish.orders.order.paid", "publish.orders.order._", "publish.news"}
    assert sent["publish.news"]["bindings"]["amqp"]["mandatory"] is False


def test_events_have_the_schema_of_their_type(document: dict[str, Any]) -> None:
    """That of the handler's parameter, and that of `publishes`; anything without one."""
    messages = document["components"]["messages"]
    assert validator(document, "invoice.event").is_valid({"order": 1})
    assert not validator(document, "invoice.event").is_valid({"order": "one"})
    assert "bindings" not in messages["invoice.event"]  # an event need not name a job
    assert validator(document, "orders.order.paid").is_valid({"order": {"order": 1}, "cents": 5})
    assert not validator(document, "orders.order.paid").is_valid({"order": 1, "cents": 5})
    assert validator(document, "news").is_valid([{"order": 1}])
    assert messages["orders.order._"]["payload"] == {}
    assert messages["store.event"]["contentType"] == "application/octet-stream"
    assert "payload" not in messages["store.event"]


def test_queues_say_what_they_are_bound_to_and_whose_they_are(document: dict[str, Any]) -> None:
    """What a queue is bound to; and of another program's queue only what is known."""
    channels = document["channels"]
    assert channels["invoices"]["x-amqpjobs"]["bindings"] == [
        {"exchange": "orders", "key": "order.placed"},
        {"exchange": "orders", "key": "order.paid"},
    ]
    assert "bindings" not in channels["mails"]["x-amqpjobs"]
    assert channels["mails.high"]["x-amqpjobs"]["bindings"]
    legacy = channels["legacy"]
    assert legacy["bindings"]["amqp"]["queue"] == {"name": "legacy", "vhost": "vh/one"}
    assert legacy["x-amqpjobs"]["foreign"]
    assert legacy["x-amqpjobs"]["failed"] == "reject"
    assert legacy["x-amqpjobs"]["dead"] is None
