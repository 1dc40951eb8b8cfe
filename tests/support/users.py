"""RabbitMQ users of a test: imported as definitions, with an app's permissions or with less."""

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from amqpjobs import App
from amqpjobs.jobs.queue.permissions import Permissions, definitions_of, permissions_of
from tests.support.brokers.broker_server import VirtualHost
from tests.support.workers import app_at

PASSWORD = "hunter2/" + secrets.token_hex(4)
"""Has to be quoted in a URL, and must be in no message."""


@dataclass(frozen=True)
class Users:
    """The three users of an app in one virtual host."""

    broker: VirtualHost
    permissions: dict[str, Permissions]

    def url(self, role: str) -> str:
        """Where that user logs in."""
        login = f"{quote(self.permissions[role].user)}:{quote(PASSWORD, safe='')}"
        return self.broker.url.replace("guest:guest", login)

    def app(self, role: str, **settings: Any) -> App:
        """An app that connects as that user, and declares nothing."""
        return app_at(self.url(role), declare_topology=role == "deploy", **settings)

    @contextmanager
    def without(self, role: str, permission: str, name: str) -> Iterator[None]:
        """One name less in one pattern; those that begin so, if it ends with `.*`."""
        own = self.permissions[role]
        patterns = {"configure": own.configure, "write": own.write, "read": own.read}
        whole = patterns[permission]
        assert re.search(whole, name), f"{role} has no {permission} for {name}"
        gone = re.escape(name[:-2]) if name.endswith(".*") else re.escape(name) + "$"
        server, vhost = self.broker.server, self.broker.name
        server.set_permissions(
            own.user, vhost, **{**patterns, permission: f"^(?!{gone}){whole[1:]}"}
        )
        try:
            yield
        finally:
            server.set_permissions(own.user, vhost, **patterns)


@contextmanager
def users_of(app: App, broker: VirtualHost) -> Iterator[Users]:
    """The app's users, gone afterwards: they are the cluster's, not the virtual host's."""
    scheduled = app.name if app.client.runtime.registry.schedules else None
    exchanges = app.client.runtime.registry.routes.exchanges.values()
    found = permissions_of(
        app.queues.values(), broker.name, scheduled=scheduled, exchanges=exchanges
    )
    server = broker.server
    server.api("POST", "/definitions", definitions_of(found, broker.name))
    try:
        for each in found:
            server.add_user(each.user, PASSWORD, tags=each.tags)
        yield Users(broker, {each.role: each for each in found})
    finally:
        for each in found:
            server.delete_user(each.user)
