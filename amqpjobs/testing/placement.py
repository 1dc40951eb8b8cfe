"""Points an app at another broker for the duration of a test: settings, connections, clock.

A test must not be able to reach the broker that is configured, whatever part of the app it calls,
and from whatever thread. So all of the process sees the change. Changes when there is something
else by which an app finds its broker.
"""

import os
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import SecretStr

from amqpjobs.client.client import Client, HasClient
from amqpjobs.client.publishers import Make
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.clock import MACHINE, Clock

if TYPE_CHECKING:
    from amqpjobs.settings import Settings

_URL = "AMQPJOBS_URL"

_placed: dict[int, "Place"] = {}
"""The apps that are elsewhere now, by the identity of each; the last one is the newest."""

_original_url: list[str | None] = []
"""What the environment said before the first of them."""


class Placeable(HasClient, Protocol):
    """What can be put elsewhere: an `App` is."""

    def placed(
        self, *, settings: "Settings", clock: Clock, make: "Make | None"
    ) -> AbstractContextManager[Client]:
        """Put it elsewhere while the block runs. See `App.placed`."""
        ...


def login_of(app: HasClient) -> tuple[str, str, str]:
    """User, password and virtual host of the app's URL; RabbitMQ's defaults for what it lacks."""
    try:
        url = app.client.runtime.settings.broker_url
    except ConfigurationError:  # it is no URL, and is not needed here
        return "guest", "guest", "/"
    return url.user or "guest", url.password or "guest", url.vhost


class Place:
    """Where an app is for a while.

    Args:
        app: that is put there.
        url: of the broker.
        clock: of the broker.
        make: makes the app's publishers; None for the usual ones.
        store: the URL of the store of statuses.

    Raises:
        ConfigurationError: the app is elsewhere already.
    """

    def __init__(
        self,
        app: Placeable,
        url: str,
        *,
        clock: Clock = MACHINE,
        make: "Make | None" = None,
        store: str | None = None,
    ) -> None:
        self._app = app
        self._url = url
        self._clock = clock
        self._make = make
        self._changes: dict[str, Any] = {
            "url": SecretStr(url),
            # Nothing is asked of a RabbitMQ that happens to run on this machine.
            "management_url": url.replace("amqp", "http", 1),
            "declare_topology": True,
            "tls_cert_file": None,
            "heartbeat_file": None,
            # The kit does what the housekeeping would, when the test says so.
            "housekeeping": False,
            # A worker that ends would leave the rest of the test undone.
            "max_jobs": None,
            "max_memory": None,
            "max_age": None,
        }
        if store is not None:
            self._changes |= {"store_url": SecretStr(store), "store_shared": True}
        self._stack = ExitStack()

    def __repr__(self) -> str:
        return f"<Place of {self._app.client.runtime.registry.name}>"

    def enter(self) -> Client:
        """Put the app there.

        Returns:
            The client that it has there.
        """
        app = self._app
        if id(app) in _placed:
            raise ConfigurationError(
                f"the app {app.client.runtime.registry.name!r} is being tested already: "
                "end that test first, or run the "
                "two in processes of their own"
            )
        settings = app.client.runtime.settings.model_copy(update=self._changes)
        placed = app.placed(settings=settings, clock=self._clock, make=self._make)
        client = self._stack.enter_context(placed)
        if not _placed:
            _original_url[:] = [os.environ.get(_URL)]
        _placed[id(app)] = self
        _tell_children()
        return client

    def leave(self) -> None:
        """Put it back. What was opened there has to be closed."""
        del _placed[id(self._app)]
        self._stack.close()
        _tell_children()


def _tell_children() -> None:
    """Jobs in processes of their own publish too, and know the environment only."""
    url = next(reversed(_placed.values()))._url if _placed else _original_url[0]
    if url is None:
        os.environ.pop(_URL, None)
    else:
        os.environ[_URL] = url
