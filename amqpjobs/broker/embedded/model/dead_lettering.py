"""Dead letters: the history that is written on them, and the cycles that end them.

Sources: RabbitMQ's ``rabbit_dead_letter`` of 3.10; ``mc`` and ``mc_amqpl`` of 4.3. Changes when
RabbitMQ writes another history.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

from amqpjobs.broker.embedded.model.messages import HAS_EXPIRATION, Message
from amqpjobs.broker.embedded.profile import Profile
from amqpjobs.errors import DecodeError
from amqpjobs.jobs.message.properties import FieldValue

Death: TypeAlias = Mapping[str, FieldValue]


def died(
    message: Message,
    reason: str,
    queue: str,
    at: float,
    *,
    exchange: str,
    routing_key: str | None,
    profile: Profile,
) -> Message:
    """The dead letter that a message becomes.

    Args:
        message: what died.
        reason: why: ``rejected``, ``expired``, ``maxlen`` or ``delivery_limit``.
        queue: where.
        at: when, in seconds since the epoch.
        exchange: where dead letters go.
        routing_key: the key they go with; None for their own.
        profile: whose history is written.
    """
    written = _headers_of(message)
    death = _death(message, reason, queue, at)
    without: tuple[str, ...] = ()
    if profile.honours_client_deaths:
        deaths = _with_death(_written_deaths(written), death)
        first = "x-death" not in written
        if routing_key is not None:
            without = ("CC",)
    else:
        deaths = _with_death(message.deaths, death)
        first = not message.deaths
    headers: dict[str, FieldValue] = {"x-death": [dict(each) for each in deaths]}
    if first:
        headers |= _summary("x-first-death", death)
    if profile.tells_last_death:
        headers |= _summary("x-last-death", death)
    key = message.routing_key if routing_key is None else routing_key
    letter = message.as_letter(exchange, key, headers, without)
    letter.deaths = () if profile.honours_client_deaths else tuple(deaths)
    if routing_key is not None:
        letter.blind, letter.rekeyed = (), True
    return letter


def ends_here(letter: Message, queue: str, reason: str, profile: Profile) -> bool:
    """Whether going to this queue closes a cycle that no client had a hand in: it is then dropped.

    Args:
        letter: a dead letter, whose last death is written on it.
        queue: where it would go.
        reason: why it died last.
        profile: whether the history is believed that a publisher wrote.
    """
    if reason == "rejected":
        return False
    deaths: Sequence[Any] = letter.deaths
    if profile.honours_client_deaths:
        written = _headers_of(letter).get("x-death")
        deaths = written if isinstance(written, list) else ()
    for death in deaths:
        if not isinstance(death, Mapping) or death.get("reason") == "rejected":
            return False
        if death.get("queue") == queue:
            return True
    return False


def _death(message: Message, reason: str, queue: str, at: float) -> dict[str, FieldValue]:
    try:
        keys = list(message.open_keys())
    except DecodeError:
        keys = [message.routing_key]
    death: dict[str, FieldValue] = {
        "count": 1,
        "reason": reason,
        "queue": queue,
        "time": datetime.fromtimestamp(int(at), UTC),
        "exchange": message.exchange,
        "routing-keys": keys,
    }
    if message.header[0] & HAS_EXPIRATION:
        death["original-expiration"] = message.expiration
    return death


def _with_death(deaths: Iterable[Death], death: Death) -> list[Death]:
    """The deaths with one more: counted up where it is known, and the latest first."""
    key = _key(death)
    others = []
    latest = death
    for known in deaths:
        if _key(known) == key:
            count = known.get("count")
            latest = {**known, "count": count + 1 if isinstance(count, int) else 1}
        else:
            others.append(known)
    return [latest, *others]


def _key(death: Death) -> tuple[FieldValue, FieldValue]:
    return death.get("queue"), death.get("reason")


def _written_deaths(headers: Mapping[str, FieldValue]) -> list[Death]:
    """The history in the headers, as 3.10 reads it. What is not one is forgotten.

    Grouping it by queue and reason, in case that was not done before, 3.10 turns it round each
    time: ``rabbit_dead_letter:group_by_queue_and_reason``.
    """
    written = headers.get("x-death")
    if not isinstance(written, list):
        return []
    groups: dict[tuple[FieldValue, FieldValue], Death] = {}
    for death in written:
        if isinstance(death, Mapping):
            groups.setdefault(_key(death), death)
    return list(reversed(groups.values()))


def _summary(prefix: str, death: Death) -> dict[str, FieldValue]:
    return {f"{prefix}-{name}": death[name] for name in ("reason", "queue", "exchange")}


def _headers_of(message: Message) -> Mapping[str, FieldValue]:
    try:
        return message.headers
    except DecodeError:
        return {}
