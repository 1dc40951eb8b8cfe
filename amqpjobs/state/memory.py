"""What an app remembers beside the broker: its store on each event loop, and who sends its outbox.

Changes when a part of the store is opened, or woken, in another way.
"""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

from amqpjobs.errors import AmqpJobsError
from amqpjobs.jobs.run_context import context_of_nobody

if TYPE_CHECKING:
    from amqpjobs.client.client import Client
    from amqpjobs.client.portal import Portal
    from amqpjobs.state.outbox.places import Outbox
    from amqpjobs.state.outbox.relay import Relay
    from amqpjobs.state.outbox.soon import SendsSoon
    from amqpjobs.state.schedules.ended import EndedTicks
    from amqpjobs.state.store.durable import DurableStore
    from amqpjobs.state.store.runs import Runs

log = logging.getLogger("amqpjobs.outbox")

Send: TypeAlias = Callable[[], Awaitable[int]]

LOOKS = (0.0, 0.01, 0.05, 0.2, 1.0)
"""Seconds before each look after a commit: some are told of just before it is done."""


LAST = 2.0
"""Seconds for what was committed just before the end of a program."""


class Memory:
    """The store of one app.

    Args:
        client: whose settings say where it is.

    Attributes:
        used: whether anything was remembered, or looked for.
        steps: whether a test says when anything is sent.
        schedules_changed: whether schedules are to be looked at before it is time.
    """

    def __init__(self, client: "Client") -> None:
        self.used = self.schedules_changed = self.steps = False
        self.client = client
        client.before_close.append(self.finish)
        client.on_close.append(self.close)
        self._here: dict[asyncio.AbstractEventLoop, _Here] = {}
        self._wakes: list[Callable[[], None]] = []
        self._portal: Portal | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Memory of {self.client.runtime.registry.name}>"

    def _of_this_loop(self, *, used: bool = True) -> "_Here":
        self.used |= used
        loop = asyncio.get_running_loop()
        here = self._here.get(loop)
        if here is None:
            for other in [each for each in list(self._here) if each.is_closed()]:
                self._here.pop(other, None)
            here = self._here[loop] = _Here(self)
        return here

    async def store(self) -> "DurableStore":
        """The store on the running event loop, opened when it is first needed.

        Raises:
            ConfigurationError: it cannot be used, or is behind.
            StoreUnavailable: it cannot be reached.
        """
        return await self._of_this_loop().store()

    @property
    def ended(self) -> "EndedTicks":
        """Jobs of schedules that have ended on the running event loop."""
        return self._of_this_loop(used=False).ended

    @property
    def app(self) -> str:
        """The name of the app."""
        return self.client.runtime.registry.name

    @property
    def outbox(self) -> "Outbox":
        """The outbox of the app."""
        from amqpjobs.state.outbox.places import IN_STORE, Outbox

        given = self.client.runtime.registry.outbox
        return given if isinstance(given, Outbox) else IN_STORE

    @property
    def relay(self) -> "Relay":
        """What sends it, on the running event loop."""
        return self._of_this_loop().relay

    @property
    def soon(self) -> "SendsSoon | None":
        """What sends messages right after their commit, on the running event loop; None where tests
        say when anything is sent."""
        return None if self.steps else self._of_this_loop().soon

    async def send(self) -> int:
        """Send a batch of what is in the outbox.

        Returns:
            How many rows there were.

        Raises:
            StoreUnavailable, PublishError, BrokerUnavailable, ConfigurationError: see `Relay.send`.
        """
        sent = await self.relay.send(self.outbox, await self.place())
        if self._stores_apart:
            from amqpjobs.state.outbox.places import IN_STORE

            sent = max(sent, await self.relay.send(IN_STORE, await self.store()))
        return sent

    @property
    def _stores_apart(self) -> bool:
        """Whether what the app has in the store sends messages by another outbox than its own."""
        if self.outbox.bind is None and self.outbox.table.schema is None:
            return False
        runtime = self.client.runtime
        if any(job.exclusion is not None for job in runtime.registry.jobs.values()):
            return True
        from amqpjobs.state.schedules.mechanism import Mechanism, mechanism_of

        return mechanism_of(runtime.settings) is not Mechanism.QUEUE

    async def place(self) -> "Runs":
        """Where the rows of the outbox are.

        Raises:
            ConfigurationError, StoreUnavailable: see `store`.
        """
        from amqpjobs.state.outbox.places import Bound

        bind = self.outbox.bind
        return await self.store() if bind is None else Bound(bind)

    def nudge(self) -> None:
        """Have the outbox sent soon: something was committed. From any thread; it never waits, and
        is no promise: what it misses is sent by the housekeeping of some process."""
        try:
            self._nudge()
        except Exception as error:  # noqa: BLE001 - the commit is done, and must not look failed
            log.warning("outbox not sent, will be later", extra={"error": str(error)})

    def _nudge(self) -> None:
        if self._wakes:
            for wake in list(self._wakes):
                wake()
            return
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            self._nudge_beside()
        else:
            self._of_this_loop().look(self.send)

    def add_wake(self, wake: Callable[[], None]) -> None:
        """Call this at each `nudge`, from whatever thread."""
        self._wakes.append(wake)

    def remove_wake(self, wake: Callable[[], None]) -> None:
        """Call it no more."""
        self._wakes.remove(wake)

    def _nudge_beside(self) -> None:
        """In synchronous code: an event loop in a thread of its own sends."""
        from amqpjobs.client.portal import Portal

        with self._lock:
            if self._portal is None or not self._portal.is_ours:
                self._portal = Portal()
                self._portal.start(self._portal.enter, self.client)
            portal = self._portal

        async def look() -> None:
            self._of_this_loop().look(self.send)

        portal.start(look)

    async def finish(self) -> None:
        """Send what was committed just now, before the publisher of this event loop is closed: what
        that fails for is left to the housekeeping."""
        here = self._here.get(asyncio.get_running_loop())
        if here is not None:
            await here.finish(self.send)

    async def close(self) -> None:
        """Close the store on this event loop. The next use opens it again."""
        here = self._here.pop(asyncio.get_running_loop(), None)
        if here is not None:
            await here.close()


class _Here:
    """The store and the relay of one event loop."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._client = memory.client
        self._store: DurableStore | None = None
        self._relay: Relay | None = None
        self._ended: EndedTicks | None = None
        self._soon: SendsSoon | None = None
        self._opening = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._again = False

    async def store(self) -> "DurableStore":
        if self._store is not None:
            return self._store
        async with self._opening:
            if self._store is None:
                from amqpjobs.state.store.opening import open_durable

                runtime = self._client.runtime
                self._store = await open_durable(runtime.settings, runtime.clock)
            return self._store

    @property
    def relay(self) -> "Relay":
        if self._relay is None:
            from amqpjobs.state.outbox.relay import Relay

            self._relay = Relay(self._client)
        return self._relay

    @property
    def soon(self) -> "SendsSoon":
        if self._soon is None:
            from amqpjobs.state.outbox.soon import SendsSoon

            self._soon = SendsSoon(self._client, self.relay, self.store)
        return self._soon

    @property
    def ended(self) -> "EndedTicks":
        if self._ended is None:
            from amqpjobs.state.schedules.ended import EndedTicks

            memory = self._memory
            self._ended = EndedTicks(memory.app, self.store, memory.nudge)
        return self._ended

    def look(self, send: Send) -> None:
        """Look several times within a second or so; once more for who comes meanwhile."""
        self._again = True
        if self._task is None or self._task.done():
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._look(send), context=context_of_nobody())

    async def _look(self, send: Send) -> None:
        while self._again:
            self._again = False
            for pause in LOOKS:
                await asyncio.sleep(pause)
                try:
                    sent = await send()
                except AmqpJobsError as error:
                    log.warning("outbox not sent, will be later", extra={"error": str(error)})
                    return
                if sent or self._again:
                    self._again = True  # there may be more
                    break

    async def finish(self, send: Send) -> None:
        if self._soon is not None:
            await self._soon.finish(LAST)
        if self._task is None or self._task.done():
            return
        self._task.cancel()
        await asyncio.wait([self._task])
        with suppress(AmqpJobsError, TimeoutError):
            async with asyncio.timeout(LAST):
                await send()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._ended is not None:
            await self._ended.close()
        if self._store is not None:
            await self._store.close()


def memory_of(client: "Client") -> Memory:
    """The memory of a client's app, made on first use."""
    known = client.memory
    if isinstance(known, Memory):
        return known
    made = client.memory = Memory(client)
    return made
