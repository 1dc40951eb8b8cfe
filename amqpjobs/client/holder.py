"""Which client an app has: made on first use, by the settings of the deployment, or a test's.

Changes when there is something else by which an app finds its broker.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from amqpjobs.client.client import Client
from amqpjobs.client.publishers import Make
from amqpjobs.jobs.clock import MACHINE, Clock
from amqpjobs.jobs.middleware import Publishing
from amqpjobs.jobs.registry import Registry
from amqpjobs.jobs.runtime import Runtime

if TYPE_CHECKING:
    from amqpjobs.settings import Settings


class ClientHolder:
    """The client of one app.

    Args:
        registry: what the app declares.
        publishing: middleware around every message that is published, outermost first.
        settings: None for the environment, read on first use.
    """

    def __init__(
        self, registry: Registry, publishing: Sequence[Publishing], settings: "Settings | None"
    ) -> None:
        self._registry = registry
        self._publishing = tuple(publishing)
        self._given = settings
        self._client: Client | None = None
        self._made: list[Client] = []

    def __repr__(self) -> str:
        return f"<ClientHolder of {self._registry.name}>"

    @property
    def client(self) -> Client:
        """The client that is in use now.

        Raises:
            ConfigurationError: a variable of the environment that cannot be used.
        """
        return self._client or self._first_use()

    def _first_use(self) -> Client:
        settings = self._given
        if settings is None:
            from amqpjobs.settings import load_settings

            settings = load_settings()
        # Threads may come at the same time, and all get the one that was first: connections are its
        # own. Without a lock, which a process that is forked meanwhile would find taken for ever.
        self._made.append(Client(Runtime(self._registry, settings), self._publishing))
        self._client = self._made[0]
        return self._client

    def configure(self, **flags: object) -> None:
        """Let values given on a command line go before the environment; None leaves a setting.

        Raises:
            ConfigurationError: a value that cannot be used.
        """
        given = {name: value for name, value in flags.items() if value is not None}
        if given:
            from amqpjobs.settings import load_settings

            base = self._given.model_dump(exclude_unset=True) if self._given else {}
            self._given = load_settings(**{**base, **given})
            self._client, self._made = None, []

    @contextmanager
    def placed(
        self, *, settings: "Settings", clock: Clock = MACHINE, make: "Make | None" = None
    ) -> Iterator[Client]:
        """Use another client while the block runs. See `App.placed`."""
        before = self._client
        client = Client(Runtime(self._registry, settings, clock), self._publishing, make)
        self._client = client
        try:
            yield client
        finally:
            self._client = before
