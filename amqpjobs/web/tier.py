"""What the routes of one web tier share, and its life. Changes when they share something new."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from amqpjobs.web.ids import Replays
from amqpjobs.web.security import Guard
from amqpjobs.worker.liveness import OK, STARTING, STOPPING

if TYPE_CHECKING:
    from amqpjobs.app import App
    from amqpjobs.publisher import Publisher


class Tier:
    """A web tier of an app.

    Args:
        app: whose jobs.
        recorder: write the events of the workers into the store, from inside of this process.

    Attributes:
        stopping: set when the server is told to stop. Streams end by it.
    """

    def __init__(self, app: "App", *, recorder: bool = True) -> None:
        app.check()
        self.app = app
        self.settings = app.settings
        self.guard = Guard(app.settings)
        self.replays = {name: Replays() for name in app.hooks}
        self.stopping = anyio.Event()
        self.streams = 0
        self._recorder = recorder
        self._publisher: Publisher | None = None

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
            await stack.enter_async_context(self.app.lifespan())
            self._publisher = await self.app.open_publisher()
            try:
                yield
            finally:
                self.stopping.set()

    @property
    def condition(self) -> str:
        """How it is: ``ok``, ``reconnecting``, ``blocked: reason``, ``stopping``, ``starting``."""
        publisher = self._publisher
        if self.stopping.is_set():
            return STOPPING
        if publisher is None:
            return STARTING
        if publisher.link.wire is None:
            return "reconnecting"
        blocked = publisher.publication.blocked
        return OK if blocked is None else f"blocked: {blocked}"

    async def obstacles(self) -> list[str]:
        """What keeps this tier from its work, in words for everybody; nothing if it is ready."""
        # Here, where the routes are included in an application whose lifespan is not ours.
        self._publisher = await self.app.open_publisher()
        condition = self.condition
        if condition == OK:
            return []
        return [_OBSTACLES.get(condition, f"RabbitMQ takes no messages, {condition}")]


_OBSTACLES = {
    STOPPING: "the server is stopping",
    STARTING: "the server is starting",
    "reconnecting": "RabbitMQ is away",
}
