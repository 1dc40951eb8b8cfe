"""What tests ask of any RabbitMQ server: an address, virtual hosts and users.

Over the management HTTP API: `rabbitmqctl` starts an Erlang machine for each call.
"""

import base64
import http.client
import json
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

GREETING: Final = b"AMQP\x00\x00\x09\x01"


def poll(condition: Callable[[], object], timeout: float, interval: float = 0.05) -> bool:
    """Whether the condition came true within that many seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(interval)
    return True


class ManagementError(Exception):
    """The management API refused a call."""

    def __init__(self, call: str, status: int, body: str) -> None:
        super().__init__(f"{call}: {status} {body}")
        self.status = status


class Server:
    """A RabbitMQ server with its management API."""

    def __init__(self, url: str, management_url: str, version: str = "") -> None:
        self.url = url
        self.management_url = management_url
        self.version = version or ".".join(self.server_version().split(".")[:2])

    def __repr__(self) -> str:
        parts = urlsplit(self.url)
        return f"<Server {self.version} [{parts.hostname}:{parts.port}]>"

    def vhost_url(self, name: str) -> str:
        """The AMQP address of a virtual host."""
        return urlsplit(self.url)._replace(path="/" + quote(name, safe="")).geturl()

    def is_ready(self) -> bool:
        """Whether it greets AMQP clients and answers HTTP."""
        parts = urlsplit(self.url)
        try:
            address = (parts.hostname or "127.0.0.1", parts.port or 5672)
            with socket.create_connection(address, timeout=2.0) as connection:
                connection.sendall(GREETING)
                if not connection.recv(1):
                    return False
            self.api("GET", "/overview", timeout=5.0)
        except (OSError, http.client.HTTPException, ManagementError):
            return False
        return True

    def server_version(self) -> str:
        """The full version, as the server says."""
        return str(self.api("GET", "/overview")["rabbitmq_version"])

    def api(self, method: str, path: str, body: object = None, *, timeout: float = 30.0) -> Any:
        """Call the management API (`path` after `/api`); the answer's JSON, or None without one."""
        where = urlsplit(self.management_url)
        who = urlsplit(self.url)
        login = f"{unquote(who.username or 'guest')}:{unquote(who.password or 'guest')}"
        kind = (
            http.client.HTTPSConnection if where.scheme == "https" else http.client.HTTPConnection
        )
        connection = kind(where.hostname or "127.0.0.1", where.port, timeout=timeout)
        headers = {
            "Authorization": "Basic " + base64.b64encode(login.encode()).decode(),
            "Content-Type": "application/json",
        }
        try:
            payload = None if body is None else json.dumps(body)
            connection.request(method, f"/api{path}", payload, headers)
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        if response.status >= 400:
            raise ManagementError(f"{method} {path}", response.status, text)
        return json.loads(text) if text else None

    def add_vhost(self, name: str) -> None:
        """Create a virtual host that the server's own user may use."""
        self.api("PUT", f"/vhosts/{quote(name, safe='')}", {})

    def delete_vhost(self, name: str) -> None:
        """Delete a virtual host with its connections and queues; one that is not there is fine."""
        self._delete(f"/vhosts/{quote(name, safe='')}")

    def add_user(self, name: str, password: str, *, tags: str = "") -> None:
        """Create a user, who may not yet do anything."""
        self.api("PUT", f"/users/{quote(name, safe='')}", {"password": password, "tags": tags})

    def set_permissions(
        self, user: str, vhost: str, *, configure: str = ".*", write: str = ".*", read: str = ".*"
    ) -> None:
        """What a user may do in a virtual host: three regular expressions, as in rabbitmqctl."""
        path = f"/permissions/{quote(vhost, safe='')}/{quote(user, safe='')}"
        self.api("PUT", path, {"configure": configure, "write": write, "read": read})

    def delete_user(self, name: str) -> None:
        """Delete a user; one that is not there is fine."""
        self._delete(f"/users/{quote(name, safe='')}")

    def _delete(self, path: str) -> None:
        try:
            self.api("DELETE", path)
        except ManagementError as error:
            if error.status != 404:
                raise

    def clear(self) -> None:
        """Delete everything but the server's own user; the virtual host `/` is a new one."""
        for vhost in self.api("GET", "/vhosts?columns=name"):
            self.delete_vhost(vhost["name"])
        self.add_vhost("/")
        for user in self.api("GET", "/users?columns=name"):
            if user["name"] != "guest":
                self.delete_user(user["name"])


@dataclass(frozen=True, slots=True)
class VirtualHost:
    """A virtual host of a test's own, and the server that it is on."""

    name: str
    url: str
    server: Server

    @property
    def version(self) -> str:
        """The server's version: "3.10", "4.3"."""
        return self.server.version


@contextmanager
def virtual_host(server: Server) -> Iterator[VirtualHost]:
    """A fresh virtual host, gone afterwards, with everything that is in it."""
    name = f"test-{secrets.token_hex(6)}"
    server.add_vhost(name)
    try:
        yield VirtualHost(name, server.vhost_url(name), server)
    finally:
        server.delete_vhost(name)
