"""What the routes of one web tier share, and its life. Changes when they share something new."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from amqpjobs.broker.rabbitmq.background import BackgroundTask
from amqpjobs.client.client import registry_of
from amqpjobs.errors import ConfigurationError, StoreUnavailable
from amqpjobs.state.needs import housekeeping_of, needed_by
from amqpjobs.state.status.reader import statuses_of
from amqpjobs.state.status.recorder import NOT_RECORDING
from amqpjobs.telemetry.health.condition import with_what_is_beside
from amqpjobs.telemetry.health.heartbeat import STARTING, STOPPING
from amqpjobs.telemetry.health.heartbeat_file import OK, is_ok
from amqpjobs.web.auth import Guard
from amqpjobs.web.recorder import Recording
from amqpjobs.web.replays import Replays

if TYPE_CHECKING:
    from amqpjobs.app import App
    from amqpjobs.client.publisher import Publisher
    from amqpjobs.state.housekeeping import Housekeeping

RECORDER_PATIENCE = 5.0
"""Seconds that a start waits for the recorder."""

STORE_PATIENCE = 2.0
"""Seconds for the store to answer a probe."""


class Tier:
    """A web tier of an app.

    Args:
        app: whose jobs.
        recorder: write the events of the workers into the store, from inside of this process.

    Attributes:
        stopping: set when the server is told to stop. Streams end by it.
        housekeeping: looks after the store in this process; None where nothing does.
    """

    def __init__(self, app: "App", *, recorder: bool = True) -> None:
        app.check()
        self.app = app
        self.settings = app.settings
        self.guard = Guard(app.settings)
        self.replays = {name: Replays() for name in registry_of(app).hooks}
        self.stopping = anyio.Event()
        self.streams = 0
        self._recording = Recording(app) if recorder else None
        self._publisher: Publisher | None = None
        self.housekeeping: Housekeeping | None = None

    def __repr__(self) -> str:
        state = "stopping" if self.stopping.is_set() else "up"
        return f"<Tier of {self.app.name}: {state}, {self.streams} streams>"

    @asynccontextmanager
    async def lifespan(self, *_: object) -> AsyncIterator[None]:
        """Keep the app's connection open, and the recorder at work.

        Raises:
            BrokerUnavailable: RabbitMQ refused us for good. One that is only away is waited for.
        """
        async with AsyncExitStack() as stack:
            self.stopping = anyio.Event()
            if self._recording is not None:
                await self._recording.check()
            stack.push_async_callback(statuses_of(self.app.client).close)
            await stack.enter_async_context(self.app.lifespan())
            self._publisher = await self.app.client.publisher()
            if self._recording is not None:
                recorder = BackgroundTask(self._recording.run, "amqpjobs recording")
                stack.push_async_callback(recorder.stop)
                await self._recording.tried(RECORDER_PATIENCE)
            self.housekeeping = housekeeping_of(self.app.client)
            if self.housekeeping is not None:
                keeping = BackgroundTask(self.housekeeping.run, "amqpjobs housekeeping")
                stack.push_async_callback(keeping.stop)
            try:
                yield
            finally:
                self.stopping.set()

    @property
    def condition(self) -> str:
        """How it is: ``ok``, ``ok, but housekeeping has to wait: why``, ``reconnecting``,
        ``blocked: reason``, ``not recording``, ``stopping``, ``starting``."""
        publisher = self._publisher
        if self.stopping.is_set():
            return STOPPING
        if publisher is None:
            return STARTING
        if publisher.link.wire is None:
            return "reconnecting"
        blocked = publisher.publication.blocked
        if blocked is not None:
            return f"blocked: {blocked}"
        if self._recording is not None and self._recording.stalled:
            return NOT_RECORDING
        return with_what_is_beside(OK, self.housekeeping.beside if self.housekeeping else None)

    async def obstacles(self) -> list[str]:
        """What keeps this tier from its work, in words for everybody; nothing if it is ready."""
        # Here, where the routes are included in an application whose lifespan is not ours.
        self._publisher = await self.app.client.publisher()
        condition = self.condition
        found = []
        if not is_ok(condition):
            found.append(_OBSTACLES.get(condition, f"RabbitMQ takes no messages, {condition}"))
        # What the store says itself is the cause of what its recorder says.
        store = await self._store_obstacle() or (self._recording and self._recording.problem)
        return [*found, store] if store else found

    async def _store_obstacle(self) -> str | None:
        needed = bool(needed_by(registry_of(self.app)))
        store = "the store, which this app needs," if needed else "the store of statuses"
        try:
            async with asyncio.timeout(STORE_PATIENCE):
                await statuses_of(self.app.client).recent(limit=1)
        except StoreUnavailable:
            return f"{store} cannot be reached"
        except TimeoutError:
            return f"{store} does not answer"
        except ConfigurationError:
            # Without a recorder it may be that nobody wants one.
            return f"{store} cannot be used" if needed or self._recording else None
        return None


_OBSTACLES = {
    STOPPING: "the server is stopping",
    STARTING: "the server is starting",
    "reconnecting": "RabbitMQ is away",
    NOT_RECORDING: "events wait, and none is recorded",
}
