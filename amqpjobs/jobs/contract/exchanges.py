"""The part of an AsyncAPI document that is about exchanges: what an app publishes and handles.

A channel is one routing key, or pattern, of one exchange. Its messages are those of the handlers
(`receive`) and of `App.publishes` (`send`). Changes when an event may be declared otherwise.
"""

import inspect
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from amqpjobs.jobs.contract.formats import described
from amqpjobs.jobs.contract.keys import free
from amqpjobs.jobs.contract.schemas import Schemas
from amqpjobs.jobs.definition import Definition
from amqpjobs.jobs.message.properties import PERSISTENT
from amqpjobs.jobs.queue.exchange import Binding
from amqpjobs.jobs.queue.queue import route_of

if TYPE_CHECKING:
    from amqpjobs.jobs.published import Published
    from amqpjobs.jobs.registry import Registry

Json: TypeAlias = dict[str, Any]

MESSAGES = "#/components/messages/"

BINDING_VERSION = "0.3.0"
"""Of the AMQP bindings, as the schema of AsyncAPI 3.0 has it."""


@dataclass(frozen=True, slots=True)
class EventParts:
    """What a document has of exchanges, by the keys there. All is empty for an app without any."""

    channels: Json = field(default_factory=dict)
    operations: Json = field(default_factory=dict)
    messages: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Taken:
    """The keys that the rest of the document has."""

    channels: Collection[str]
    operations: Collection[str]
    messages: Collection[str]


def event_parts(
    registry: "Registry", schemas: Schemas, virtual_host: str, taken: Taken
) -> EventParts:
    """What the document says of exchanges.

    Args:
        schemas: of the jobs, and of the events that are published.
        virtual_host: of the exchanges.
        taken: keys that are not to be used again.
    """
    parts, keys = EventParts(), dict[str, str]()

    def channel_of(binding: Binding) -> str:
        key = keys.get(str(binding))
        if key is None:
            name = f"{binding.exchange.name}.{binding.key}".rstrip(".")
            key = keys[str(binding)] = free(name, (*taken.channels, *parts.channels))
            parts.channels[key] = _channel(binding, virtual_host)
        return key

    for job in registry.jobs.values():
        if job.bindings:
            message = free(f"{job.name}.event", (*taken.messages, *parts.messages))
            title = f"An event for {job.name}"
            payload = described(job.body, schemas.payloads[job.name])
            parts.messages[message] = {"name": message, "title": title, **payload}
        for binding in job.bindings:
            channel = channel_of(binding)
            name = free(f"{job.name}.{channel}", (*taken.operations, *parts.operations))
            receives = _receives(registry, job)
            parts.operations[name] = _operation(parts, channel, message, receives)
    for number, published in enumerate(registry.published):
        channel = channel_of(published.binding)
        message = free(channel, (*taken.messages, *parts.messages))
        parts.messages[message] = _message(message, published, schemas.events.get(number))
        name = free(f"publish.{channel}", (*taken.operations, *parts.operations))
        parts.operations[name] = _operation(parts, channel, message, _SENDS)
    return parts


def _channel(binding: Binding, virtual_host: str) -> Json:
    exchange = binding.exchange
    no_key = exchange.type in ("fanout", "headers")
    more: Json = {"foreign": exchange.foreign, "alternate": exchange.alternate}
    if binding.arguments:
        more["arguments"] = dict(binding.arguments)
    return {
        "address": None if no_key else binding.key,
        "description": f"Events of the {exchange.type} exchange {exchange.name!r}.",
        "messages": {},
        "bindings": {
            "amqp": {
                "is": "routingKey",
                "exchange": {
                    "name": exchange.name,
                    "type": exchange.type,
                    "durable": True,
                    "autoDelete": False,
                    "vhost": virtual_host,
                },
                "bindingVersion": BINDING_VERSION,
            }
        },
        "x-amqpjobs": more,
    }


def _operation(parts: EventParts, channel: str, message: str, what: Json) -> Json:
    """An operation on a channel, which has its message from now on."""
    parts.channels[channel]["messages"][message] = {"$ref": MESSAGES + message}
    place = f"#/channels/{channel}"
    return {
        "action": what["action"],
        "channel": {"$ref": place},
        "messages": [{"$ref": f"{place}/messages/{message}"}],
        **{name: value for name, value in what.items() if name != "action"},
    }


_SENDS: Json = {
    "action": "send",
    "bindings": {
        "amqp": {
            "deliveryMode": PERSISTENT,
            "mandatory": False,
            "timestamp": True,
            "bindingVersion": BINDING_VERSION,
        }
    },
}


def _receives(registry: "Registry", job: Definition) -> Json:
    queue, _ = route_of(job.queue, job.bound_priority)
    return {
        "action": "receive",
        **words(job),
        "bindings": {"amqp": {"ack": True, "bindingVersion": BINDING_VERSION}},
        "x-amqpjobs": {
            "queue": queue,
            "timeout": job.timeout,
            "attempts": attempts_of(registry, job),
        },
    }


def _message(key: str, published: "Published", schema: Json | None) -> Json:
    described_ = described(published.body, {} if schema is None else schema)
    return {"name": key, "title": f"An event of {published.exchange.name}", **described_}


def words(job: Definition) -> Json:
    """What the handler's docstring says."""
    said = inspect.getdoc(job.function)
    if not said:
        return {}
    summary = " ".join(said.partition("\n\n")[0].split())
    return {"summary": summary, "description": said}


def attempts_of(registry: "Registry", job: Definition) -> int | None:
    """How often a job runs at most; None for no end."""
    return 1 if job.at_most_once else (job.retry or registry.retry).attempts


def bindings_of_lane(registry: "Registry", queue: str) -> Iterator[Json]:
    """What an AMQP queue is bound to."""
    for binding in registry.routes.bindings.get(queue, ()):
        found: Json = {"exchange": binding.exchange.name, "key": binding.key}
        yield {**found, "arguments": dict(binding.arguments)} if binding.arguments else found
