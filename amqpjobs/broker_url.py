"""Where RabbitMQ is: a URL with one node, or with the nodes of a cluster separated by commas.

Everything that reads the URL reads it here. Changes when a URL may say more.
"""

import ipaddress
import re
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import unquote

from amqpjobs.errors import ConfigurationError

PORTS = {"amqp": 5672, "amqps": 5671}
"""By scheme."""

_CLUSTER = "amqp://user:password@host-1:5672,host-2:5672/vhost"


def not_a_url() -> ConfigurationError:
    """The error for a text that cannot be read at all."""
    return ConfigurationError(
        "AMQPJOBS_URL is not a URL of RabbitMQ: write amqp://user:password@host:5672/vhost, or "
        "amqps://... for TLS"
    )


@dataclass(frozen=True, slots=True)
class Node:
    """One node of RabbitMQ, as the URL names it.

    Attributes:
        host: a name or an address, without brackets.
        port: of AMQP.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.netloc_host}:{self.port}"

    @property
    def netloc_host(self) -> str:
        """The host as it stands in a URL: an IPv6 address in brackets."""
        return f"[{self.host}]" if ":" in self.host else self.host


@dataclass(frozen=True, slots=True)
class BrokerUrl:
    """The parts of ``amqp://user:password@rabbit-1:5672,rabbit-2:5672/vhost``.

    A URL of one host has one node. Login and virtual host are the same for all nodes.

    Attributes:
        scheme: ``amqp``, or ``amqps`` for TLS.
        nodes: one or more, in the order in which they are written.
        user: None if the URL names none.
        password: None if the URL has none.
        vhost: the virtual host; ``/`` if the URL names none.
    """

    scheme: str
    nodes: tuple[Node, ...]
    user: str | None
    password: str | None = field(repr=False)
    vhost: str
    _login: str = field(repr=False)
    _path: str = field(repr=False)

    @property
    def encrypted(self) -> bool:
        """Whether the connection uses TLS."""
        return self.scheme == "amqps"

    def at(self, *nodes: Node) -> str:
        """The URL with these nodes in place of its own, with the password."""
        return f"{self.scheme}://{self._login}{','.join(map(str, nodes))}{self._path}"


@lru_cache(maxsize=8)
def parse_broker_url(text: str) -> BrokerUrl:
    """Read a URL of RabbitMQ.

    Raises:
        ConfigurationError: it is none; the message shows no part of it, since any part may be a
            password that is not percent-encoded.
    """
    scheme, _, rest = text.partition("://")
    if scheme not in PORTS or not rest:
        raise not_a_url()
    if re.search(r"[,;\s]\s*amqps?://", rest):
        raise ConfigurationError(
            "AMQPJOBS_URL has several URLs: name the scheme, the login and the virtual host once, "
            f"and separate the nodes of a cluster by commas: {_CLUSTER}"
        )
    end = re.search("[/?#]", rest)
    authority, tail = (rest[: end.start()], rest[end.start() :]) if end else (rest, "")
    if "@" in tail:
        raise ConfigurationError(
            "AMQPJOBS_URL has an @ behind its host: in a user or a password write / as %2F, "
            "# as %23, ? as %3F and @ as %40"
        )
    login, at, hosts = authority.rpartition("@")
    user, colon, password = login.partition(":")
    path = re.split("[?#]", tail, maxsplit=1)[0]
    return BrokerUrl(
        scheme,
        _nodes(hosts, PORTS[scheme]),
        unquote(user) or None,
        unquote(password) if colon else None,
        unquote(path[1:]) or "/",
        login + at,
        path,
    )


def _nodes(hosts: str, port: int) -> tuple[Node, ...]:
    texts = hosts.split(",")
    found = []
    for number, text in enumerate(texts, 1):
        node = _node(text, port)
        if node is not None:
            found.append(node)
        elif len(texts) == 1:
            raise not_a_url()
        else:
            problem = "is no host, or its port no number from 1 to 65535" if text else "is missing"
            raise ConfigurationError(
                f"AMQPJOBS_URL: host {number} of {len(texts)} {problem}: write {_CLUSTER}"
            )
    if len(set(found)) < len(found):
        raise ConfigurationError("AMQPJOBS_URL names a node twice: name each host and port once")
    return tuple(found)


def _node(text: str, port: int) -> Node | None:
    """The node of ``host``, ``host:port``, ``[::1]`` or ``[::1]:port``; None for another text."""
    parts = re.fullmatch(r"(?:\[([^\[\]\s]+)\]|([^\[\]:;\s]+))(?::(\d{1,5}))?", text, re.ASCII)
    if parts is None:
        return None
    bracketed, name, digits = parts.groups()
    number = int(digits) if digits else port
    if not 0 < number < 65536 or (bracketed and not _is_ipv6(bracketed)):
        return None
    return Node((bracketed or name).lower(), number)


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.ip_address(unquote(text)).version == 6
    except ValueError:
        return False


def without_password(text: str) -> str:
    """The URL for messages and logs.

    Not parsed as a URL: a password with ``/``, ``#`` or ``@`` that is not percent-encoded would
    come out as a part of the path.
    """
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in PORTS:
        return "(not a URL of RabbitMQ)"
    login, at, place = rest.rpartition("@")
    place = re.split("[?#]", place, maxsplit=1)[0]
    if not at:
        # Without the host, `user:password` stands in its place.
        hosts, slash, path = place.partition("/")
        shown = (re.sub(r"^([^\[]*?):(?!\d+$).*", r"\1", host) for host in hosts.split(","))
        place = f"{','.join(shown)}{slash}{path}"
    user = login.partition(":")[0]
    return f"{scheme}://{user}@{place}" if user else f"{scheme}://{place}"
