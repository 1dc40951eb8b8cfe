"""Calls the broadcast handlers of an app in this process, with the events that come to its queue.

Changes when such events are taken or handled otherwise.
"""

import asyncio
import logging
import os
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from inspect import isawaitable
from typing import Any

from anyio import CapacityLimiter, to_thread

from amqpjobs.broker.amqp.frames import HeaderView, split_header
from amqpjobs.broker.rabbitmq.calls import from_broker
from amqpjobs.broker.rabbitmq.connection import Link, Wire
from amqpjobs.broker.rabbitmq.listener import Listener
from amqpjobs.client.exchanges import Exchanges
from amqpjobs.errors import ConfigurationError, DecodeError
from amqpjobs.jobs.broadcasts import Broadcast
from amqpjobs.jobs.message.content import received
from amqpjobs.jobs.message.origin import Origin, event_of
from amqpjobs.jobs.registry import Registry
from amqpjobs.jobs.run_context import context_of_nobody

log = logging.getLogger("amqpjobs.broadcast")

BEGINNING = 5.0
"""Seconds that the start of a process waits for its queue."""

REFUSED_PAUSE = 30.0
"""Seconds before RabbitMQ is asked again for what it has refused."""

MOST_WAITING = 10_000
"""Events that wait for one handler. With more the oldest are dropped: memory stays bounded."""


class Broadcasts:
    """The broadcast handlers of one process.

    Args:
        link: the connection that the queue is on.
        exchanges: declares what the queue is bound to.
        registry: of the app: its handlers, and whether another publisher of the process listens.
        largest: bodies over so many bytes are dropped.
    """

    def __init__(self, link: Link, exchanges: Exchanges, registry: Registry, largest: int) -> None:
        self._handlers = [_Handler(each, largest) for each in registry.broadcasts]
        handled = registry.broadcasts
        self._listener = _EventListener(link, exchanges, handled, self._take, self._missed)
        self._listening = registry.listening

    def __repr__(self) -> str:
        return f"<Broadcasts: {len(self._handlers)} handlers, {self._listener!r}>"

    @property
    def idle(self) -> bool:
        """Whether all that has come is handled."""
        return all(handler.idle for handler in self._handlers)

    def claim(self) -> bool:
        """Whether this is the one that listens in this process. Each event loop has a publisher,
        and an event is for the process."""
        return self._listening.setdefault(os.getpid(), self) is self

    def release(self) -> None:
        """Let another one listen, which is opened after this."""
        if self._listening.get(os.getpid()) is self:
            del self._listening[os.getpid()]

    async def begun(self, link: Link) -> None:
        """Wait until it listens, for a few seconds, and not for a broker that is away."""
        if link.wire is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(BEGINNING):
                    await self._listener.ready()

    async def run(self) -> None:
        """Listen and handle until cancelled."""
        async with asyncio.TaskGroup() as group:
            for handler in self._handlers:
                group.create_task(handler.run(), context=context_of_nobody())
            group.create_task(self._listen(), context=context_of_nobody())

    async def _listen(self) -> None:
        while True:
            try:
                await self._listener.run()
            except ConfigurationError as error:
                # A permission may be granted while the process runs; its jobs need not wait for it.
                log.error("broadcasts not received", extra={"error": str(error)})  # noqa: TRY400
            await asyncio.sleep(REFUSED_PAUSE)

    def _take(self, view: HeaderView, origin: Origin, body: bytes) -> None:
        found = [handler for handler in self._handlers if handler.listens(view, origin)]
        # What nothing is bound for has come by a binding between two exchanges, or as what an
        # exchange could not pass on: the handlers of other exchanges get it by their patterns.
        others = (handler for handler in self._handlers if handler.may_get(view, origin))
        for handler in found or others:
            handler.take(view, origin, body)

    def _missed(self) -> None:
        for handler in self._handlers:
            handler.missed()


class _EventListener(Listener):
    """A queue of this process that is bound for broadcasts."""

    def __init__(
        self,
        link: Link,
        exchanges: Exchanges,
        broadcasts: Sequence[Broadcast],
        take: Callable[[HeaderView, Origin, bytes], None],
        missed: Callable[[], None],
    ) -> None:
        found = dict.fromkeys(b for broadcast in broadcasts for b in broadcast.bindings)
        super().__init__(link, _unused, [(each.exchange.name, each.key) for each in found])
        self._exchanges, self._found = exchanges, tuple(found)
        self._take, self._missed = take, missed

    async def _consume(self, wire: Wire, channel: Any) -> None:
        for binding in self._found:
            await self._exchanges.ensure(binding.exchange)
        await super()._consume(wire, channel)
        if self.starts > 1:
            self._missed()

    async def _bind(self, channel: Any, queue: str) -> None:
        with from_broker():
            for each in self._found:
                headers = dict(each.arguments)
                await channel.queue_bind(queue, each.exchange.name, each.key, arguments=headers)

    def delivered(
        self,
        consumer_tag: bytes,
        delivery_tag: int,
        redelivered: bool,
        exchange: bytes,
        routing_key: bytes,
        header: bytes,
        body: bytes,
    ) -> None:
        """A message, as the splitter hands it over."""
        origin = Origin(exchange.decode("utf-8", "replace"), routing_key.decode("utf-8", "replace"))
        try:
            view = split_header(header)
            _ = view.headers
        except DecodeError as error:
            _dropped("", origin, error)
            return
        self._take(view, origin, body)


class _Handler:
    """One handler, and the events that wait for it."""

    def __init__(self, broadcast: Broadcast, largest: int) -> None:
        self._broadcast = broadcast
        self._largest = largest
        self._waiting: deque[tuple[HeaderView, Origin, bytes]] = deque()
        self._arrived = asyncio.Event()
        self._has_missed = False
        self._works = False
        self._thread = CapacityLimiter(1)  # not that of the program, which may be used up

    @property
    def idle(self) -> bool:
        return not self._waiting and not self._has_missed and not self._works

    def listens(self, view: HeaderView, origin: Origin) -> bool:
        """Whether it listens to an event of the exchange that this one was published to."""
        return any(
            each.exchange.name == origin.exchange and each.matches(origin.routing_key, view.headers)
            for each in self._broadcast.bindings
        )

    def may_get(self, view: HeaderView, origin: Origin) -> bool:
        """Whether another exchange may have passed an event on to it."""
        return any(
            each.exchange.name != origin.exchange and each.matches(origin.routing_key, view.headers)
            for each in self._broadcast.bindings
        )

    def take(self, view: HeaderView, origin: Origin, body: bytes) -> None:
        """Let it handle an event."""
        if len(body) > self._largest:
            _dropped(self._broadcast.name, origin, f"the body has {len(body)} bytes")
            return
        if len(self._waiting) >= MOST_WAITING:
            if not self._has_missed:
                log.warning("broadcasts dropped", extra={"handler": self._broadcast.name})
            self._waiting.popleft()
            self._has_missed = True
        self._waiting.append((view, origin, body))
        self._arrived.set()

    def missed(self) -> None:
        """Events may be missing."""
        self._has_missed = True
        self._arrived.set()

    async def run(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting or self._has_missed:
                self._works = True
                try:
                    await self._next()
                finally:
                    self._works = False

    async def _next(self) -> None:
        if self._has_missed:
            self._has_missed = False
            if self._broadcast.missed is not None:
                await self._called(self._broadcast.missed)
            return
        view, origin, body = self._waiting.popleft()
        try:
            event = event_of(view.properties(), origin)
            if self._broadcast.payload is not None:
                body = received(self._broadcast.body, view, body, self._largest)
            arguments = self._broadcast.arguments(event, body)
        except DecodeError as error:
            _dropped(self._broadcast.name, origin, error)
            return
        await self._called(lambda: self._broadcast.function(*arguments[0], **arguments[1]))

    async def _called(self, function: Callable[[], Awaitable[object] | object]) -> None:
        """Call it; a plain function in a thread. Nothing that it raises ends the listening."""
        own = asyncio.current_task()
        try:
            if self._broadcast.is_async:
                result = function()
            else:
                result = await to_thread.run_sync(function, limiter=self._thread)
            if isawaitable(result):
                await result
        except asyncio.CancelledError:
            if own is not None and own.cancelling():
                raise
            log.exception("broadcast handler failed", extra={"handler": self._broadcast.name})
        except BaseException:
            log.exception("broadcast handler failed", extra={"handler": self._broadcast.name})


def _dropped(handler: str, origin: Origin, error: object) -> None:
    log.warning(
        "broadcast unreadable, dropped",
        extra={
            "handler": handler, "exchange": origin.exchange, "routing_key": origin.routing_key,
            "error": str(error),
        },
    )  # fmt: skip


def _unused(view: HeaderView, body: bytes) -> None:
    """`_EventListener` takes messages with where they were published."""
