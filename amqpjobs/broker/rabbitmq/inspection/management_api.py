"""RabbitMQ's management API, for the little that AMQP cannot tell: how much is unacked, and where.

A convenience: where it does not answer, that is not known. Changes when more is asked of it.
"""

import base64
import json
import re
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit

from amqpjobs.broker.rabbitmq.tls import verifying_context
from amqpjobs.errors import ConfigurationError
from amqpjobs.settings import Settings

TIMEOUT = 2.0
"""Seconds for an answer."""


class NotAnswered(Exception):
    """It did not answer; the message says why, and what to do."""


_CONCURRENCY = re.compile(r"amqpjobs consume .* concurrency=(\d+)")


@dataclass(frozen=True, slots=True)
class Held:
    """What one worker holds of one AMQP queue.

    Attributes:
        queue: its name.
        concurrency: the worker's slots, for all of its queues.
        prefetch: deliveries that it may hold of this one.
        unacked: deliveries that it holds.
        acks: how many it settles in a second; the statistics are some seconds old.
    """

    queue: str
    concurrency: int
    prefetch: int
    unacked: int
    acks: float

    @property
    def waiting(self) -> int:
        """How many of them have no slot, at least."""
        return max(0, self.unacked - self.concurrency)


def unacked(settings: Settings) -> dict[str, int]:
    """Deliveries that are not settled, by AMQP queue. Blocks for `TIMEOUT` at most.

    Raises:
        NotAnswered: the management API does not answer.
        ConfigurationError: a TLS file cannot be used.
    """
    rows = _rows(settings, f"/api/queues/{_vhost(settings)}")
    return {row["name"]: row.get("messages_unacknowledged", 0) for row in rows}


def held_by_workers(settings: Settings) -> list[Held]:
    """What each worker holds that this user may see. Blocks for three times `TIMEOUT` at most.

    Raises:
        NotAnswered: the management API does not answer.
        ConfigurationError: a TLS file cannot be used.
    """
    vhost = _vhost(settings)
    connections = _rows(settings, f"/api/vhosts/{vhost}/connections")
    names = {row.get("name"): str(row.get("user_provided_name")) for row in connections}
    workers = {name: m for name, given in names.items() if (m := _CONCURRENCY.match(given))}
    channels = {row.get("name"): row for row in _rows(settings, f"/api/vhosts/{vhost}/channels")}
    found = []
    for consumer in _rows(settings, f"/api/consumers/{vhost}"):
        details = consumer.get("channel_details") or {}  # `[]` of a channel that is gone
        worker = workers.get(details.get("connection_name"))
        channel = channels.get(details.get("name"))
        if worker is not None and channel is not None:
            acks = channel.get("message_stats", {}).get("ack_details", {}).get("rate", 0.0)
            held = channel.get("messages_unacknowledged", 0)
            queue, prefetch = consumer["queue"]["name"], consumer["prefetch_count"]
            found.append(Held(queue, int(worker[1]), prefetch, held, acks))
    return found


def queues_without_leader(settings: Settings) -> list[str]:
    """Quorum queues of the virtual host that are down, as far as RabbitMQ says: a member that has
    ended on a node that runs, it may go on to call running (seen on 3.10.8 and 4.3.6).

    Raises:
        NotAnswered: the management API does not answer.
        ConfigurationError: a TLS file cannot be used.
    """
    return leaderless(_rows(settings, f"/api/queues/{_vhost(settings)}"))


def leaderless(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Of the queues of the API those whose members are not online, or too few of them."""
    return [
        row["name"]
        for row in rows
        if row.get("members") and (row.get("online") == [] or row.get("state") in DOWN)
    ]


@dataclass(frozen=True, slots=True)
class Replicas:
    """The members of a quorum queue.

    Attributes:
        queue: its name.
        members: nodes that have a replica.
        online: those whose replica runs.
        leader: the node of its leader; None if it has none.
    """

    queue: str
    members: int
    online: int
    leader: str | None

    @property
    def majority(self) -> int:
        """How many must be online, or the queue takes and delivers nothing."""
        return self.members // 2 + 1


def replicas(settings: Settings) -> list[Replicas]:
    """The members of each quorum queue of the virtual host.

    Raises:
        NotAnswered: the management API does not answer.
        ConfigurationError: a TLS file cannot be used.
    """
    rows = _rows(settings, f"/api/queues/{_vhost(settings)}")
    return [
        Replicas(
            row["name"],
            len(row["members"]),
            len(row.get("online") or ()),
            row.get("leader") or None,
        )
        for row in rows
        if row.get("members") and row.get("type") == "quorum"
    ]


def nodes_of_cluster(settings: Settings) -> dict[str, bool]:
    """The nodes of the cluster by name, and whether each runs.

    Raises:
        NotAnswered: the management API does not answer; or the user has not the tag `monitoring`.
        ConfigurationError: a TLS file cannot be used.
    """
    return {row["name"]: bool(row.get("running")) for row in _rows(settings, "/api/nodes")}


def youngest_node(settings: Settings) -> float:
    """Seconds since the last start of a node of the cluster.

    Raises:
        NotAnswered: the management API does not answer.
        ConfigurationError: a TLS file cannot be used.
    """
    ages = [row["uptime"] for row in _rows(settings, "/api/nodes") if "uptime" in row]
    if not ages:
        raise NotAnswered("RabbitMQ's management API does not say when its nodes started")
    return float(min(ages)) / 1000


def queues_in(settings: Settings) -> list[dict[str, Any]]:
    """The queues of the virtual host.

    Raises:
        NotAnswered: the management API does not answer.
        ConfigurationError: a TLS file cannot be used.
    """
    return _rows(settings, f"/api/queues/{_vhost(settings)}")


def bindings_in(settings: Settings) -> list[dict[str, Any]]:
    """The bindings of the virtual host.

    Raises:
        NotAnswered: the management API does not answer.
        ConfigurationError: a TLS file cannot be used.
    """
    return _rows(settings, f"/api/bindings/{_vhost(settings)}")


def _vhost(settings: Settings) -> str:
    return quote(settings.broker_url.vhost, safe="")


def _rows(settings: Settings, path: str) -> list[dict[str, Any]]:
    rows = _get(settings, path)
    if not isinstance(rows, list):
        raise NotAnswered("this is not RabbitMQ's management API")
    return [row for row in rows if isinstance(row, dict)]


DOWN = frozenset({"down", "minority", "stopped"})
"""States of a quorum queue in which it has no leader."""


_answered: dict[tuple[str, ...], str] = {}
"""By the addresses of a cluster the one that answered last, which is asked first."""


def address_of(settings: Settings) -> str:
    """Where it answered last; before that the first of its addresses."""
    bases = addresses_of_api(settings)
    return _answered.get(bases, bases[0])


def addresses_of_api(settings: Settings) -> tuple[str, ...]:
    """Where it is, one for each node: what the settings say, else the usual port of RabbitMQ's
    hosts. Where AMQP is encrypted, so is this: the password goes along.

    Raises:
        ConfigurationError: the setting is no URL of it.
    """
    if settings.management_url:
        return _bases(settings.management_url)
    url = settings.broker_url
    scheme, port = ("https", 15671) if url.encrypted else ("http", 15672)
    hosts = dict.fromkeys(node.netloc_host for node in url.nodes)
    return tuple(f"{scheme}://{host}:{port}" for host in hosts)


def _bases(given: str) -> tuple[str, ...]:
    scheme, _, rest = given.partition("://")
    hosts, slash, path = rest.partition("/")
    bases = tuple(f"{scheme}://{host}{slash}{path}".rstrip("/") for host in hosts.split(","))
    try:
        usable = all(urlsplit(base).hostname and urlsplit(base).port != 0 for base in bases)
    except ValueError:
        usable = False
    if scheme not in ("http", "https") or not usable:
        raise ConfigurationError(
            "AMQPJOBS_MANAGEMENT_URL is no http:// or https:// URL: write http://rabbitmq:15672, "
            "and http://rabbit-1:15672,rabbit-2:15672 for several nodes"
        )
    return bases


class _NodeAway(NotAnswered):
    """This node did not answer; another one may."""


def _get(settings: Settings, path: str) -> Any:
    bases = addresses_of_api(settings)
    first = _answered.get(bases, bases[0])
    problems: list[str] = []
    for base in sorted(bases, key=lambda base: base != first):
        try:
            found = _get_from(base, settings, path)
        except _NodeAway as problem:
            problems.append(str(problem))
        else:
            _answered[bases] = base
            return found
    raise NotAnswered(f"{'; '.join(problems)}: see AMQPJOBS_MANAGEMENT_URL")


def _get_from(base: str, settings: Settings, path: str) -> Any:
    context = verifying_context(settings) if base.startswith("https") else None
    request = urllib.request.Request(base + path)  # noqa: S310 - http or https, see above
    request.add_header("Authorization", _login(settings, base))
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT, context=context) as answer:  # noqa: S310
            return json.load(answer)
    except HTTPError as error:
        error.close()
        if error.code in (401, 403):
            raise NotAnswered(
                f"{base} refuses the user of AMQPJOBS_URL: `rabbitmqctl set_user_tags USER "
                "management` lets it look"
            ) from error
        raise _NodeAway(f"{base} answers {error.code}") from error
    except (URLError, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise _NodeAway(f"{base} ({reason})") from error
    except ValueError as error:
        raise _NodeAway(f"{base} answers no JSON") from error


def _login(settings: Settings, base: str) -> str:
    url = settings.broker_url
    if not url.user and settings.tls_cert_file is not None:
        # It takes no certificate, and guest's password is nobody's here.
        raise NotAnswered(f"{base} wants a user and a password, and AMQPJOBS_URL has none")
    login = f"{url.user or 'guest'}:{url.password or 'guest'}"
    return "Basic " + base64.b64encode(login.encode()).decode()
