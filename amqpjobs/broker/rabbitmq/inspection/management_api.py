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
from urllib.parse import quote, unquote, urlsplit

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
        NotAnswered: nobody knows.
        ConfigurationError: a TLS file cannot be used.
    """
    rows = _rows(settings, f"/api/queues/{_vhost(settings)}")
    return {row["name"]: row.get("messages_unacknowledged", 0) for row in rows}


def held_by_workers(settings: Settings) -> list[Held]:
    """What each worker holds that this user may see. Blocks for three times `TIMEOUT` at most.

    Raises:
        NotAnswered: nobody knows.
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
        NotAnswered: nobody knows.
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


def youngest_node(settings: Settings) -> float:
    """Seconds since the last start of a node of the cluster.

    Raises:
        NotAnswered: nobody knows.
        ConfigurationError: a TLS file cannot be used.
    """
    ages = [row["uptime"] for row in _rows(settings, "/api/nodes") if "uptime" in row]
    if not ages:
        raise NotAnswered("RabbitMQ's management API does not say when its nodes started")
    return float(min(ages)) / 1000


def bindings_in(settings: Settings) -> list[dict[str, Any]]:
    """The bindings of the virtual host.

    Raises:
        NotAnswered: nobody knows.
        ConfigurationError: a TLS file cannot be used.
    """
    return _rows(settings, f"/api/bindings/{_vhost(settings)}")


def _vhost(settings: Settings) -> str:
    url = urlsplit(settings.url.get_secret_value())
    return quote(unquote(url.path[1:]) or "/", safe="")


def _rows(settings: Settings, path: str) -> list[dict[str, Any]]:
    rows = _get(settings, path)
    if not isinstance(rows, list):
        raise NotAnswered("this is not RabbitMQ's management API")
    return [row for row in rows if isinstance(row, dict)]


DOWN = frozenset({"down", "minority", "stopped"})
"""States of a quorum queue in which it has no leader."""


def address_of(settings: Settings) -> str:
    """Where it is: what the settings say, else the usual port of RabbitMQ's host. Where AMQP is
    encrypted, so is this: the password goes along."""
    if settings.management_url:
        return settings.management_url.rstrip("/")
    url = urlsplit(settings.url.get_secret_value())
    host = url.hostname or "127.0.0.1"
    host = f"[{host}]" if ":" in host else host
    return f"https://{host}:15671" if url.scheme == "amqps" else f"http://{host}:15672"


def _get(settings: Settings, path: str) -> Any:
    base = address_of(settings)
    if not base.startswith(("http://", "https://")):
        raise ConfigurationError("AMQPJOBS_MANAGEMENT_URL is no http:// or https:// URL")
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
        raise NotAnswered(f"{base} answers {error.code}: see AMQPJOBS_MANAGEMENT_URL") from error
    except (URLError, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise NotAnswered(f"{base} ({reason}): see AMQPJOBS_MANAGEMENT_URL") from error
    except ValueError as error:
        raise NotAnswered(f"{base} answers no JSON: see AMQPJOBS_MANAGEMENT_URL") from error


def _login(settings: Settings, base: str) -> str:
    url = urlsplit(settings.url.get_secret_value())
    if not url.username and settings.tls_cert_file is not None:
        # It takes no certificate, and guest's password is nobody's here.
        raise NotAnswered(f"{base} wants a user and a password, and AMQPJOBS_URL has none")
    login = f"{unquote(url.username or 'guest')}:{unquote(url.password or 'guest')}"
    return "Basic " + base64.b64encode(login.encode()).decode()
