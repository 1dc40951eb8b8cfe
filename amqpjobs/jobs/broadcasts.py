"""Handlers that every process runs: `App.broadcast`.

Changes when such a handler may look otherwise, or has another option.
"""

import inspect
from collections.abc import Awaitable, Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.annotations import hints_of
from amqpjobs.jobs.context import Context
from amqpjobs.jobs.handlers import is_async, is_generator
from amqpjobs.jobs.message.bodies import GivenBody, body_of
from amqpjobs.jobs.message.origin import Event
from amqpjobs.jobs.queue.exchange import Binding, Exchange, Pattern, bindings_of

if TYPE_CHECKING:
    from amqpjobs.jobs.message.arguments import Payload

H = TypeVar("H", bound=Callable[..., Any])

Missed: TypeAlias = Callable[[], Awaitable[object] | object]
"""Called without arguments, when events may have been missed."""


class Broadcast:
    """A function that every process calls with each event that matches.

    Args:
        function: ``async def`` or ``def``.
        bindings: what it listens to.
        missed: called when events may have been missed; None for nothing.
        body: the format of the events; None for JSON.

    Raises:
        ConfigurationError: a function that cannot be called with an event.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        bindings: tuple[Binding, ...],
        missed: Missed | None,
        body: GivenBody = None,
    ) -> None:
        self.function = function
        self.body = body_of(body)
        self.bindings = bindings
        self.missed = missed
        self.name = getattr(function, "__qualname__", repr(function))
        if not inspect.isfunction(function) or is_generator(function):
            raise ConfigurationError(f"@broadcast is for functions, not {function!r}")
        if missed is not None and not callable(missed):
            raise ConfigurationError(f"missed is a function without parameters, not {missed!r}")
        self.is_async = is_async(function)
        self._parameters = list(inspect.signature(function).parameters.values())
        for parameter in self._parameters:
            if parameter.annotation is parameter.empty:
                raise self._fail(f"parameter {parameter.name!r} has no annotation")

    def __repr__(self) -> str:
        return f"<Broadcast {self.name}>"

    def _fail(self, problem: str) -> ConfigurationError:
        return ConfigurationError(f"broadcast {self.name!r}: {problem}")

    @cached_property
    def _hints(self) -> dict[str, Any]:
        return hints_of(self.function, self.name)

    @cached_property
    def takes_event(self) -> bool:
        """Whether its first parameter is the `Event`."""
        return bool(self._parameters) and self._hints[self._parameters[0].name] is Event

    @cached_property
    def payload(self) -> "Payload | None":
        """The parameters that travel; None for none: then the body is not looked at."""
        from amqpjobs.jobs.message.arguments import Payload
        from amqpjobs.jobs.message.formatted import FormattedPayload

        parameters = self._parameters[int(self.takes_event) :]
        if not parameters:
            return None
        if self.body is None:
            return Payload(self.name, parameters, self._hints)
        return FormattedPayload(self.body, self.name, parameters, self._hints, str)

    def check(self) -> None:
        """Resolve everything that may be wrong.

        Raises:
            ConfigurationError: what is wrong, naming the function.
        """
        taken = [self._hints[parameter.name] for parameter in self._parameters]
        by_name = self.takes_event and self._parameters[0].kind is inspect.Parameter.KEYWORD_ONLY
        if Event in taken[1:] or by_name:
            raise self._fail("the Event is its first parameter, and given by its place")
        if Context in taken:
            raise self._fail("it is no job and has no Context: take `event: Event` first")
        _ = self.payload

    def arguments(self, event: Event, data: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What it is called with.

        Args:
            event: what it handles.
            data: the body, decompressed.

        Raises:
            DecodeError: the body does not fit.
        """
        args, kwargs = ((), {}) if self.payload is None else self.payload.load(data)
        return ((event, *args) if self.takes_event else args), kwargs


class DeclaresBroadcasts:
    """Has a decorator for handlers that every process runs."""

    _add_broadcast: Callable[[Broadcast], None]

    def broadcast(
        self,
        exchange: Exchange,
        /,
        *patterns: Pattern,
        missed: Missed | None = None,
        body: GivenBody = None,
    ) -> Callable[[H], H]:
        """Call a function in every process of the app with each event that matches: to invalidate a
        cache, or to reload settings. A worker listens while it runs, a web tier and a script inside
        of ``app.lifespan()``. Each has an exclusive queue of its own, which is gone with it.

        It is not a job: nothing is kept for a process that is away, nothing is retried, and there
        is no status. What the function raises is logged. Calls of one function come one by one.

        Args:
            exchange: where the events are published.
            patterns: as for `on`.
            missed: called without arguments, ``async def`` or ``def``, when the connection is back
                after a loss, or events came faster than they were handled: some may be missing.
            body: the format of the events, such as ``CloudEvent``; None for JSON.

        Raises:
            ConfigurationError: a pattern that the exchange cannot match; or a function that cannot
                be called with an event.

        Example:
            >>> prices, cache = Exchange("prices"), {}
            >>> @app.broadcast(prices, "price.*", missed=cache.clear)
            ... async def forget(event: Event, product: dict[str, str]) -> None:
            ...     cache.pop(product["id"], None)
        """
        if not isinstance(exchange, Exchange):
            raise ConfigurationError(f'@broadcast takes an Exchange("name"), not {exchange!r}')
        bindings = bindings_of(exchange, patterns)

        def decorate(function: H) -> H:
            self._add_broadcast(Broadcast(function, bindings, missed, body))
            return function

        return decorate
