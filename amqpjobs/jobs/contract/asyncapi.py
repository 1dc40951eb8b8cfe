"""An AsyncAPI 3.0 document of an app: its queues, jobs and replies, with their JSON Schemas.

Made of the registry and the settings, without a broker. What is written where:
https://www.asyncapi.com/docs/reference/specification/v3.0.0, and for the bindings
https://github.com/asyncapi/bindings/tree/master/amqp. Changes when the wire contract or AsyncAPI
does.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from amqpjobs.jobs.contract.exchanges import (
    BINDING_VERSION,
    MESSAGES,
    Taken,
    attempts_of,
    bindings_of_lane,
    event_parts,
    words,
)
from amqpjobs.jobs.contract.formats import described
from amqpjobs.jobs.contract.keys import distinct, free
from amqpjobs.jobs.contract.schemas import Schemas, schemas_of
from amqpjobs.jobs.definition import Definition
from amqpjobs.jobs.message.header_info import HeaderInfo
from amqpjobs.jobs.message.header_names import ALL
from amqpjobs.jobs.message.properties import ERROR_REPLY, JSON, PERSISTENT
from amqpjobs.jobs.message.trace_context import BAGGAGE, TRACE_PARENT, TRACE_STATE
from amqpjobs.jobs.queue.queue import Lane, Queue, keeps_failed, lanes_of

if TYPE_CHECKING:
    from amqpjobs.broker_url import BrokerUrl
    from amqpjobs.jobs.registry import Registry
    from amqpjobs.jobs.runtime import Runtime

Json: TypeAlias = dict[str, Any]

SCHEMAS = "#/components/schemas/"
HEADERS = "amqpjobs.headers"
CORRELATION = "correlation"


def document_of(runtime: "Runtime", version: str) -> Json:
    """The document.

    Args:
        runtime: whose jobs.
        version: of the API, for people and for tools that compare documents.

    Returns:
        JSON values. Credentials are not among them.

    Raises:
        ConfigurationError: a job, a queue or a setting that cannot work.
    """
    registry = runtime.registry
    registry.check()
    schemas = schemas_of(registry.jobs.values(), SCHEMAS, registry.published)
    keys = _keys(registry, schemas.results)
    channels, operations = _channels(runtime, keys), _operations(registry, keys)
    messages = dict(_messages(registry, schemas, keys))
    taken = Taken(channels, operations, messages)
    events = event_parts(registry, schemas, runtime.settings.broker_url.vhost, taken)
    return {
        "asyncapi": "3.0.0",
        "info": {"title": registry.name, "version": version},
        "defaultContentType": JSON,
        "servers": _servers(runtime.settings.broker_url),
        "channels": channels | events.channels,
        "operations": operations | events.operations,
        "components": {
            "messages": messages | events.messages,
            "schemas": {**schemas.shared, HEADERS: _headers(), ERROR_REPLY: _error()},
            "correlationIds": {
                CORRELATION: {
                    "description": "The AMQP property `correlation_id`, the same in the reply.",
                    "location": "$message.header#/correlationId",
                }
            },
        },
    }


@dataclass(frozen=True, slots=True)
class _Keys:
    """The key of each job's message, result and reply channel, and of each AMQP queue's channel."""

    jobs: Mapping[str, str]
    results: Mapping[str, str]
    queues: Mapping[str, str]
    replies: Mapping[str, str]


def _keys(registry: "Registry", answering: Collection[str]) -> _Keys:
    jobs = distinct({job: job for job in registry.jobs}, [ERROR_REPLY])
    queues = distinct(
        {lane.queue: lane.queue for q in registry.queues.values() for lane in lanes_of(q)}
    )
    return _Keys(
        jobs,
        distinct({job: f"{job}.result" for job in answering}, [ERROR_REPLY, *jobs.values()]),
        queues,
        distinct({job: f"{job}.reply" for job in answering}, queues.values()),
    )


def _servers(url: "BrokerUrl") -> Json:
    several = len(url.nodes) > 1
    return {
        f"rabbitmq-{number}" if several else "rabbitmq": {
            "host": str(node),
            "protocol": url.scheme,
            "protocolVersion": "0.9.1",
            "description": f"RabbitMQ, virtual host {url.vhost}",
            "security": [{"type": "userPassword"}],
        }
        for number, node in enumerate(url.nodes, 1)
    }


def _channels(runtime: "Runtime", keys: _Keys) -> Json:
    """One for each AMQP queue that jobs wait in, and one for the replies of each job."""
    arguments = {queue.name: dict(queue.arguments) for queue in runtime.registry.topology.queues}
    virtual_host = runtime.settings.broker_url.vhost
    channels: Json = {}
    for queue, lane, jobs in _lanes(runtime.registry):
        channels[keys.queues[lane.queue]] = {
            "address": lane.queue,
            "description": _what_waits(queue, lane),
            "messages": _references(keys.jobs[job.name] for job in jobs),
            "bindings": {
                "amqp": {
                    "is": "queue",
                    "queue": _queue(queue, lane, virtual_host),
                    "bindingVersion": BINDING_VERSION,
                }
            },
            "x-amqpjobs": {
                "arguments": arguments.get(lane.queue, {}),
                "priority": lane.priority,
                "weight": lane.weight,
                "dead": queue.dead if keeps_failed(queue) else None,
                "parked": queue.parked if keeps_failed(queue) else None,
                **_of_others(runtime.registry, queue, lane),
            },
        }
    for job, key in keys.replies.items():
        channels[key] = {
            "address": None,
            "description": "The caller's queue, named in `reply_to`, by the default exchange.",
            "messages": _references((keys.results[job], ERROR_REPLY)),
        }
    return channels


def _queue(queue: Queue, lane: Lane, virtual_host: str) -> Json:
    known = {} if queue.foreign else {"durable": True, "exclusive": False, "autoDelete": False}
    return {"name": lane.queue, **known, "vhost": virtual_host}


def _of_others(registry: "Registry", queue: Queue, lane: Lane) -> Json:
    """What the queue is bound to, and how it is shared with its owner; nothing for most."""
    found: Json = {}
    if bindings := list(bindings_of_lane(registry, lane.queue)):
        found["bindings"] = bindings
    return found | {"foreign": True, "failed": queue.failed} if queue.foreign else found


def _references(messages: Iterable[str]) -> Json:
    return {key: {"$ref": MESSAGES + key} for key in messages}


def _lanes(registry: "Registry") -> Iterator[tuple[Queue, Lane, list[Definition]]]:
    for queue in registry.queues.values():
        jobs = [job for job in registry.jobs.values() if job.queue is queue]
        for lane in lanes_of(queue):
            yield queue, lane, jobs


def _what_waits(queue: Queue, lane: Lane) -> str:
    if queue.foreign:
        return "Another program declares this queue. What waits here is handled as jobs."
    if lane.priority is None:
        one = " One of them runs at a time." if queue.singleton else ""
        return (
            f"Jobs wait here.{one} Publish to the default exchange, with the queue's name as the "
            "key."
        )
    return (
        f"Jobs of priority {lane.priority} wait here: of {sum(queue.priorities.values())} starts "
        f"with all priorities waiting, {lane.weight}."
    )


def _operations(registry: "Registry", keys: _Keys) -> Json:
    """One for each job and each AMQP queue that it may wait in."""
    operations: Json = {key: {} for key in keys.jobs.values()}
    for queue, lane, jobs in _lanes(registry):
        channel = f"#/channels/{keys.queues[lane.queue]}"
        for job in jobs:
            key = name = keys.jobs[job.name]
            if lane.queue != queue.name:
                name = free(f"{key}.{lane.priority}", operations)
            operations[name] = {
                "action": "receive",
                "channel": {"$ref": channel},
                "messages": [{"$ref": f"{channel}/messages/{key}"}],
                **words(job),
                "bindings": {
                    "amqp": {
                        "deliveryMode": PERSISTENT,
                        "mandatory": True,
                        "ack": True,
                        "bindingVersion": BINDING_VERSION,
                    }
                },
                "x-amqpjobs": {
                    "timeout": job.timeout,
                    "attempts": attempts_of(registry, job),
                },
            }
            if job.name in keys.replies:
                operations[name]["reply"] = _reply(keys, job.name)
    return operations


def _reply(keys: _Keys, job: str) -> Json:
    channel = f"#/channels/{keys.replies[job]}"
    answers = keys.results[job], ERROR_REPLY
    return {
        "address": {
            "description": "The AMQP property `reply_to`. Without it no reply is sent.",
            "location": "$message.header#/replyTo",
        },
        "channel": {"$ref": channel},
        "messages": [{"$ref": f"{channel}/messages/{m}"} for m in answers],
    }


def _messages(registry: "Registry", schemas: Schemas, keys: _Keys) -> Iterator[tuple[str, Json]]:
    correlation = {"correlationId": {"$ref": f"#/components/correlationIds/{CORRELATION}"}}
    common = {"contentType": JSON, **correlation}
    for name, key in keys.jobs.items():
        yield (
            key,
            {
                "name": name,
                "title": name,
                **correlation,
                "headers": {"$ref": SCHEMAS + HEADERS},
                **described(registry.jobs[name].body, schemas.payloads[name]),
                "bindings": _of_type(name),
            },
        )
    for name, key in keys.results.items():
        title = f"What {name} returned"
        yield key, {"name": key, "title": title, **common, "payload": schemas.results[name]}
    if keys.results:
        yield (
            ERROR_REPLY,
            {
                "name": ERROR_REPLY,
                "title": "The job failed",
                **common,
                "payload": {"$ref": SCHEMAS + ERROR_REPLY},
                "bindings": _of_type(ERROR_REPLY),
            },
        )


def _of_type(name: str) -> Json:
    return {"amqp": {"messageType": name, "bindingVersion": BINDING_VERSION}}


def _headers() -> Json:
    """Of the headers those that another program may have a reason to write."""
    own = {name: _header(info) for name, info in ALL.items() if info.type == "integer"}
    return {
        "type": "object",
        "description": "All may be missing. Others are allowed: the job's `ctx.headers`.",
        "additionalProperties": True,
        "properties": {
            **own,
            TRACE_PARENT: {"type": "string", "description": "W3C trace context."},
            TRACE_STATE: {"type": "string", "description": "W3C trace context."},
            BAGGAGE: {"type": "string", "description": "W3C baggage."},
        },
    }


def _header(info: HeaderInfo) -> Json:
    schema: Json = {"type": info.type, "minimum": info.minimum}
    if info.default is not None:
        schema["default"] = info.default
    return {**schema, "description": f"{info.meaning[0].upper()}{info.meaning[1:]}."}


def _error() -> Json:
    return {
        "type": "object",
        "required": ["error", "message", "job", "attempt"],
        "properties": {
            "error": {"type": "string", "description": "The name of the exception's class."},
            "message": {"type": "string", "description": "What a person should read."},
            "job": {"type": ["string", "null"], "description": "The job's name, if it is known."},
            "attempt": {"type": ["integer", "null"], "minimum": 1, "description": "Which run."},
        },
    }
