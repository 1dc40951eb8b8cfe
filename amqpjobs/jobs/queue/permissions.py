"""RabbitMQ's permissions for the users of an app, as values.

RabbitMQ has three regular expressions for each user, over the names of queues and exchanges alike:
configure, write and read (https://www.rabbitmq.com/docs/access-control). Changes when a role needs
something else on the broker.
"""

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from amqpjobs.jobs.queue.exchange import Exchange
from amqpjobs.jobs.queue.queue import Queue, keeps_failed, lanes_of
from amqpjobs.jobs.queue.topology import (
    CONTROL_EXCHANGE,
    EVENTS_EXCHANGE,
    HOLDS,
    RECORDER_QUEUE,
    TICKER,
)

OURS = r"amqpjobs\..*"
"""The names of what amqpjobs itself has on the broker: delays, events, dead letters, control."""

ALONE = r"amq\.gen-.*"
"""Names that RabbitMQ gives to the queues of one connection: replies, events, words to cancel. Each
is exclusive, so that the pattern opens nobody else's."""

DEFAULT_EXCHANGE = r"amq\.default"
"""What the permissions call the exchange with the empty name, which leads to every queue."""

PAUSED = r"amqpjobs\.paused\."


@dataclass(frozen=True, slots=True)
class Permissions:
    """What one user may do in one virtual host.

    Attributes:
        role: ``deploy``, ``worker`` or ``publisher``.
        user: the name.
        tags: for the management API; separated by commas.
        configure: which queues and exchanges may be declared and deleted.
        write: which exchanges may be published to, and which queues be bound. From 4.3.1 RabbitMQ
            wants one permission, whichever, even for looking whether something is there: for a
            queue that is not to be read, this is it.
        read: which queues may be consumed and purged, and which exchanges be bound from.
    """

    role: str
    user: str
    tags: str
    configure: str
    write: str
    read: str


def permissions_of(
    queues: Iterable[Queue],
    prefix: str,
    *,
    scheduled: str | None = None,
    exchanges: Iterable[Exchange] = (),
) -> tuple[Permissions, ...]:
    """The least that the users of an app with these queues need.

    Args:
        queues: of the app.
        prefix: of the users' names, which a cluster has once for all its virtual hosts.
        scheduled: the name of the app, if it has schedules; None if it has none.
        exchanges: that the app binds its queues to, or publishes to.

    Returns:
        ``deploy`` declares, looks, moves dead letters, and pauses queues; ``worker`` consumes, and
        does what jobs do; ``publisher`` enqueues, asks, watches and records, as a web tier does.
    """
    queues = tuple(queues)
    lanes, foreign = _lanes(queues, foreign=False), _lanes(queues, foreign=True)
    kept = [queue for queue in queues if keeps_failed(queue)]
    dead = [_literal(queue.dead) for queue in kept]
    parked = [_literal(queue.parked) for queue in kept]
    exchanges = tuple(exchanges)
    declared = [_literal(each.name) for each in exchanges if not each.foreign]
    bound = [_literal(each.name) for each in exchanges]
    others = [_literal(each.alternate) for each in exchanges if each.alternate]
    whole = [OURS, *lanes, *dead, *parked]
    marks = [PAUSED + _literal(queue.name) for queue in queues]
    control, events, recorder, holds = map(
        _literal, (CONTROL_EXCHANGE, EVENTS_EXCHANGE, RECORDER_QUEUE, HOLDS)
    )
    tickers = [] if scheduled is None else [_literal(TICKER + scheduled)]
    writes = [DEFAULT_EXCHANGE, ALONE, *whole, *bound, *foreign]
    return (
        Permissions(
            "deploy", f"{prefix}-deploy", "management",
            _any_of([ALONE, *whole, *declared]), _any_of([*writes, *others]),
            _any_of([ALONE, *whole, *foreign, *bound]),
        ),
        Permissions(
            "worker", f"{prefix}-worker", "",
            _any_of([ALONE, *marks, *tickers]), _any_of(writes),
            _any_of([ALONE, control, events, holds, *lanes, *parked, *foreign, *bound]),
        ),
        Permissions(
            "publisher", f"{prefix}-publisher", "",
            _any_of([ALONE, *tickers]), _any_of(writes),
            _any_of([ALONE, events, holds, recorder, *bound]),
        ),
    )  # fmt: skip


def _lanes(queues: Iterable[Queue], *, foreign: bool) -> list[str]:
    found = [queue for queue in queues if queue.foreign == foreign]
    return [_literal(lane.queue) for queue in found for lane in lanes_of(queue)]


def definitions_of(
    permissions: Iterable[Permissions], vhost: str, *, users: bool = True
) -> dict[str, Any]:
    """The same as RabbitMQ's definitions, for `rabbitmqctl import_definitions`.

    Args:
        permissions: of the users.
        vhost: the virtual host, which is made if it is not there.
        users: make the users, too, without passwords: no login by password until one is
            set. Those that are there lose theirs, so this is for the first time only.
    """
    found = tuple(permissions)
    document: dict[str, Any] = {"vhosts": [{"name": vhost}]}
    if users:
        document["users"] = [
            {
                "name": each.user,
                # An empty hash is no password's.
                "password_hash": "",
                "hashing_algorithm": "rabbit_password_hashing_sha256",
                "tags": each.tags,
            }
            for each in found
        ]
    document["permissions"] = [
        {"vhost": vhost}
        | {k: v for k, v in asdict(each).items() if k in ("user", "configure", "write", "read")}
        for each in found
    ]
    return document


def _any_of(patterns: Iterable[str]) -> str:
    """One anchored pattern. Without anchors `work` would allow `homework`, too."""
    return f"^({'|'.join(patterns)})$"


def _literal(name: str) -> str:
    """The name as a pattern; plainer than `re.escape`, which people are to read."""
    return re.sub(r"([\\^$.|?*+()\[\]{}])", r"\\\1", name)
