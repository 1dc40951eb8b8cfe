"""Publishers by event loop: each opened on first use, and closed when its last user leaves.

A connection lives on one event loop, and synchronous code has a loop of its own. Changes when
opening or closing does.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeAlias

from amqpjobs.errors import BrokerUnavailable, ConfigurationError
from amqpjobs.jobs.run_context import context_of_nobody
from amqpjobs.jobs.runtime import Runtime

if TYPE_CHECKING:
    from amqpjobs.client.publisher import Publisher

Make: TypeAlias = "Callable[[Runtime], Publisher]"
OnClose: TypeAlias = Callable[[], Awaitable[None]]

log = logging.getLogger("amqpjobs.app")


class Publishers:
    """The publishers of one app.

    Args:
        runtime: whose.
        make: makes one, which is then opened; None for the usual one.
        on_close: what else is closed with the publisher of an event loop.
    """

    def __init__(
        self, runtime: Runtime, make: "Make | None" = None, on_close: Sequence[OnClose] = ()
    ) -> None:
        self._runtime = runtime
        self._make: Make = make or _make
        self._on_close = on_close
        # Not by weak keys: a publisher holds its loop. Closed ones are dropped at the next opening.
        self._openings: dict[asyncio.AbstractEventLoop, _Opening] = {}

    def __repr__(self) -> str:
        return f"<Publishers of {self._runtime.registry.name}: {len(self._openings)} open>"

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Keep the publisher of this event loop open; the last to end closes it."""
        loop = asyncio.get_running_loop()
        opening = self._openings.get(loop)
        if opening is None:
            opening = self._new(loop)
        # Counted, since two workers of one app in one process end in any order.
        opening.lifespans += 1
        try:
            await opening.ready()
            yield
        finally:
            opening.lifespans -= 1
            if not opening.lifespans:
                if self._openings.get(loop) is opening:
                    del self._openings[loop]
                await opening.close()

    @property
    def opened(self) -> "Publisher | None":
        """The publisher of the running event loop, if it is open."""
        opening = self._openings.get(asyncio.get_running_loop())
        return opening.publisher if opening is not None else None

    async def open(self) -> "Publisher":
        """The publisher of the running event loop, opened if it is not.

        Raises:
            ConfigurationError: no event loop of asyncio runs here.
        """
        loop = _running_loop()
        opening = self._openings.get(loop)
        if opening is None:
            log.info(
                "opening a connection on first use",
                extra={"hint": "`async with app.lifespan():` around the program closes it"},
            )
            opening = self._new(loop)
        if opening.publisher is not None:
            return opening.publisher
        try:
            return await opening.ready()
        except BaseException:
            # Whoever gives up waiting leaves it to the others; what has failed is tried anew.
            if opening.failed and self._openings.get(loop) is opening:
                del self._openings[loop]
            raise

    def _new(self, loop: asyncio.AbstractEventLoop) -> "_Opening":
        # In one step each: other threads open on loops of their own.
        for other in [each for each in list(self._openings) if each.is_closed()]:
            dropped = self._openings.pop(other, None)
            if dropped is not None:
                dropped.drop()
        opening = self._openings[loop] = _Opening(self._runtime, self._make, self._on_close)
        return opening

    async def close(self) -> None:
        """Close what a first use outside of a `lifespan` has opened on this event loop."""
        opening = self._openings.pop(asyncio.get_running_loop(), None)
        if opening is not None:
            await opening.close()


def _running_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise ConfigurationError(
            "no event loop of asyncio runs here: in synchronous code write `with app.blocking() as "
            "client: client.later(job.message(...))`"
        ) from None


def _make(runtime: Runtime) -> "Publisher":
    # Here, since importing aio-pika takes longer than everything else together.
    from amqpjobs.client.publisher import Publisher

    return Publisher(runtime)


class _Opening:
    """A publisher that is being opened once, whoever asks first."""

    def __init__(self, runtime: Runtime, make: "Make", on_close: Sequence[OnClose]) -> None:
        self._runtime = runtime
        self._make = make
        self._on_close = on_close
        self._task: asyncio.Task[Publisher] | None = None
        self.publisher: Publisher | None = None
        self.lifespans = 0

    @property
    def failed(self) -> bool:
        return self._task is not None and self._task.done() and self.publisher is None

    async def ready(self) -> "Publisher":
        if self._task is None:
            # It outlives the job whose call is the first.
            self._task = asyncio.get_running_loop().create_task(
                self._open(), context=context_of_nobody()
            )
        # Shielded: one caller who gives up must not take the connection from the others.
        try:
            return await asyncio.shield(self._task)
        except BrokerUnavailable as error:
            if error.unconfigured:
                # The first error that many users see: their own lines, and what to do.
                error.__traceback__ = None
            raise

    async def _open(self) -> "Publisher":
        self._runtime.registry.check()
        publisher = self._make(self._runtime)
        await publisher.open()
        self.publisher = publisher
        return publisher

    def drop(self) -> None:
        """The event loop was closed, as `asyncio.run` does, without `close`."""
        if self.publisher is not None:
            self.publisher.drop()

    async def close(self) -> None:
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])
        if self.publisher is not None:
            await self.publisher.close()
        for close in self._on_close:
            await close()
