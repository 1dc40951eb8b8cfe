"""An app is put onto another broker for a while, and back: settings, connections, clock.

A test must not be able to reach the broker that is configured, whatever part of the app it calls,
and from whatever thread. So all of the process sees the change. Changes when there is something
else by which an app finds its broker.
"""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from amqpjobs.client.publisher import Publisher
from amqpjobs.client.publishers import Publishers
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.clock import MACHINE, Clock

if TYPE_CHECKING:
    from amqpjobs.app import App

_URL = "AMQPJOBS_URL"

_placed: dict[int, "Place"] = {}
"""The apps that are elsewhere now, by the identity of each; the last one is the newest."""

_original_url: list[str | None] = []
"""What the environment said before the first of them."""


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
        app: "App",
        url: str,
        *,
        clock: Clock = MACHINE,
        make: "Callable[[App], Publisher] | None" = None,
        store: str | None = None,
    ) -> None:
        self._app = app
        self._url = url
        self._clock = clock
        self._publishers = Publishers(app, make)
        self._changes: dict[str, Any] = {
            "url": SecretStr(url),
            # Nothing is asked of a RabbitMQ that happens to run on this machine.
            "management_url": url.replace("amqp", "http", 1),
            "declare_topology": True,
            "tls_cert_file": None,
            "heartbeat_file": None,
        }
        if store is not None:
            self._changes["store_url"] = SecretStr(store)
        self._before: dict[str, Any] = {}

    def __repr__(self) -> str:
        return f"<Place of {self._app.name}>"

    def enter(self) -> None:
        """Put the app there."""
        app = self._app
        if id(app) in _placed:
            raise ConfigurationError(
                f"the app {app.name!r} is being tested already: end that test first, or run the "
                "two in processes of their own"
            )
        settings = app.settings.model_copy(update=self._changes)
        settings.__dict__.pop("safe_url", None)  # a property that is kept, and copied along
        self._before = dict(app.__dict__)
        app.__dict__.pop("statuses", None)
        app.__dict__.update(
            settings=settings,
            _given_settings=settings,
            _publishers=self._publishers,
            clock=self._clock,
        )
        if not _placed:
            _original_url[:] = [os.environ.get(_URL)]
        _placed[id(app)] = self
        _tell_children()

    def leave(self) -> None:
        """Put it back. What was opened there has to be closed."""
        app = self._app
        del _placed[id(app)]
        for name in ("settings", "_given_settings", "_publishers", "clock", "statuses"):
            app.__dict__.pop(name, None)
            if name in self._before:
                app.__dict__[name] = self._before[name]
        self._before.clear()
        _tell_children()


def _tell_children() -> None:
    """Jobs in processes of their own publish too, and know the environment only."""
    url = next(reversed(_placed.values()))._url if _placed else _original_url[0]
    if url is None:
        os.environ.pop(_URL, None)
    else:
        os.environ[_URL] = url
