"""The recipes of the guide for MassTransit and NServiceBus, with messages as these write them.

The shapes are from their documentation: MassTransit's page "Serialization" (github.com/MassTransit/
MassTransit, doc/content/3.documentation/2.configuration/serialization.md), and NServiceBus's pages
"Message headers" and "Routing topology" (github.com/Particular/docs.particular.net).
"""

import json
import re
from pathlib import Path
from typing import Any

import aio_pika
import pytest

import amqpjobs
from amqpjobs import App
from amqpjobs.errors import DecodeError
from amqpjobs.jobs.job import definition_of
from amqpjobs.jobs.message.content import received
from amqpjobs.jobs.message.properties import Properties

PAGE = Path(amqpjobs.__file__).parent / "guide" / "message-formats.md"

ENVELOPE: dict[str, Any] = {
    "messageId": "181c0000-6393-3630-36a4-08daf4e7c6da",
    "requestId": "ef375b18-69ee-4a9e-b5ec-44ee1177a27e",
    "correlationId": None,
    "conversationId": None,
    "initiatorId": None,
    "sourceAddress": "rabbitmq://localhost/source",
    "destinationAddress": "rabbitmq://localhost/destination",
    "responseAddress": "rabbitmq://localhost/response",
    "faultAddress": "rabbitmq://localhost/fault",
    "messageType": ["urn:message:Company.Project:SubmitOrder"],
    "message": {
        "orderId": "181c0000-6393-3630-36a4-08daf4e7c6da",
        "timestamp": "2023-01-12T21:55:53.714Z",
    },
    "expirationTime": None,
    "sentTime": "2023-01-12T21:55:53.715882Z",
    "headers": {"Application-Header": "SomeValue"},
    "host": {"machineName": "MyComputer", "processName": "dotnet", "processId": 427},
}


def recipe(name: str) -> dict[str, Any]:
    """What a file of the page defines, in a module of its own name."""
    found = re.search(rf"```python\n# {name}\.py\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    namespace: dict[str, Any] = {"__name__": f"recipe_{name}"}
    exec(compile(found.group(1), name, "exec"), namespace)
    return namespace


def test_an_envelope_of_masstransit_is_read():
    """As its documentation shows one; with base types behind its own type."""
    submit = recipe("masstransit")["submit"]
    definition = definition_of(submit)
    types = [*ENVELOPE["messageType"], "urn:message:Company.Project:IOrder"]
    for envelope in (ENVELOPE, {**ENVELOPE, "messageType": types}):
        said = Properties("application/vnd.masstransit+json")
        body = received(definition.body, said, json.dumps(envelope).encode(), 10_000)
        (order,), _ = definition.payload.load(body)
        assert order.order_id == ENVELOPE["message"]["orderId"]
        assert order.timestamp.year == 2023
    other = {**ENVELOPE, "messageType": ["urn:message:Company.Project:Other"]}
    with pytest.raises(DecodeError, match="MassTransit cannot read the body: ValueError"):
        definition.payload.load(json.dumps(other).encode())


def test_an_envelope_for_masstransit():
    """What its consumers need: the type, and the message with its names in camel case."""
    made = recipe("masstransit")
    order = made["SubmitOrder"](order_id="7", timestamp=ENVELOPE["sentTime"])
    message = made["submit"].message(order)
    envelope = json.loads(message.body)
    assert message.content_type == "application/vnd.masstransit+json"
    assert envelope["messageType"] == ENVELOPE["messageType"]
    assert envelope["message"] == {"orderId": "7", "timestamp": ENVELOPE["sentTime"]}
    assert len(envelope["messageId"]) == 36
    assert set(envelope) <= set(ENVELOPE)


@pytest.mark.parametrize("content_type", ["application/json", "text/json"])
async def test_an_event_of_nservicebus(content_type: str) -> None:
    """The AMQP type is the class's full name, the body may begin with a byte order mark."""
    made = recipe("nservicebus")
    project: App = made["project"]
    headers = {
        "NServiceBus.MessageId": "3b2a5f3b-7e9a-4ab8-9ac2-a8c300e1b8b2",
        "NServiceBus.MessageIntent": "Publish",
        "NServiceBus.ContentType": content_type,
        "NServiceBus.EnclosedMessageTypes": "Company.Project.OrderPlaced, Company.Project, "
        "Version=1.0.0.0, Culture=neutral, PublicKeyToken=null",
        "NServiceBus.OriginatingEndpoint": "Shop",
        "NServiceBus.TimeSent": "2026-11-30 01:02:03:456789 Z",
        "$.diagnostics.originating.hostid": "f9e1c1a2",
    }
    async with project.testing() as t:
        await t.run_until_idle()
        async with await aio_pika.connect(t.url) as connection:
            channel = await connection.channel()
            message = aio_pika.Message(
                b'\xef\xbb\xbf{"OrderId":"7"}', content_type=content_type, headers=headers,
                type="Company.Project.OrderPlaced", message_id=headers["NServiceBus.MessageId"],
            )  # fmt: skip
            await channel.default_exchange.publish(message, routing_key="orders")
        await t.run_until_idle()
        assert t.results(made["order_placed"]) == ["7 from Shop"]
