"""Where a message was published first: the exchange and the routing key, which copies carry.

Changes when a copy has to say more of it.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from amqpjobs.jobs.message.properties import FieldValue, Headers, Properties

_EVENTS = uuid.UUID("5a3b7a35-5c43-5d0e-8a1c-2f0a3f6f1c44")
"""The namespace of the ids of jobs that are made of events."""

LONGEST_ID = 255
"""Characters of a job's id that are taken from a header."""


class Origin(NamedTuple):
    """Where a message was published.

    Attributes:
        exchange: its name.
        routing_key: as it was published.
        job_id: of the job that the message is; None for not yet known.
        event_id: the ``message_id`` of the event, which a copy may have replaced; None for none.
    """

    exchange: str
    routing_key: str
    job_id: str | None = None
    event_id: str | None = None


def origin_from(value: FieldValue) -> Origin | None:
    """What a header says of it; None if it says nothing usable. Anyone may have written it."""
    if not isinstance(value, Mapping):
        return None
    exchange, key = value.get("exchange"), value.get("key")
    if isinstance(exchange, str) and exchange and isinstance(key, str):
        return Origin(exchange, key, _id(value.get("id")), _id(value.get("event")))
    return None


def _id(value: FieldValue) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= LONGEST_ID else None


def origin_table(origin: Origin) -> dict[str, FieldValue]:
    """The header that says so."""
    table: dict[str, FieldValue] = {"exchange": origin.exchange, "key": origin.routing_key}
    ids: dict[str, str | None] = {"id": origin.job_id, "event": origin.event_id}
    return table | {name: value for name, value in ids.items() if value is not None}


def origin_of_death(headers: Headers) -> Origin | None:
    """The same of a message that RabbitMQ itself has dead-lettered: ``x-death`` has where it was
    published, and the routing keys. The oldest entry says it: the others are of the ways that a
    queue's owner sends it back by. None for what was sent to its queue, and for a copy of ours: an
    exchange of amqpjobs is that of a delay, and the header of the copy says the rest."""
    for death in reversed(_deaths(headers)):
        keys = death.get("routing-keys")
        if isinstance(keys, list | tuple) and keys:
            found = origin_from({"exchange": death.get("exchange"), "key": keys[0]})
            return None if found is None or found.exchange.startswith("amqpjobs.") else found
    return None


def has_died_in(headers: Headers, queue: str) -> bool:
    """Whether RabbitMQ has dead-lettered a message from this queue: now it has come back to it."""
    return any(death.get("queue") == queue for death in _deaths(headers))


def _deaths(headers: Headers) -> list[Mapping[str, FieldValue]]:
    deaths = headers.get("x-death")
    entries = deaths if isinstance(deaths, list | tuple) else ()
    return [death for death in entries if isinstance(death, Mapping)]


@dataclass(frozen=True, slots=True)
class Event:
    """What a job knows of the event that it handles: `Context.event`.

    Attributes:
        id: the AMQP ``message_id``; None if its publisher gave none. The job's id follows from it.
        exchange: where it was published.
        routing_key: with which key.
        type: the AMQP ``type``, which is its publisher's word; None without one.
        app: the AMQP ``app_id``: who published it, by its own account; None without one.
        time: when it was published, in seconds since the epoch; None without a timestamp.
    """

    id: str | None
    exchange: str
    routing_key: str
    type: str | None
    app: str | None
    time: float | None


def event_of(properties: Properties, origin: Origin) -> Event:
    """The event that a message is."""
    time = properties.timestamp
    return Event(
        origin.event_id or properties.message_id, origin.exchange, origin.routing_key,
        properties.type, properties.app_id, None if time is None else float(time),
    )  # fmt: skip


def job_id_of(message_id: str, queue: str) -> str:
    """The id of the job that an event is in one queue: the same for each delivery of it, and
    another one in each queue, since an event may go to many.

    Args:
        message_id: of the event.
        queue: the AMQP queue.
    """
    return str(uuid.uuid5(_EVENTS, f"{queue}\0{message_id}"))
