"""Which handler gets an event: the bindings of an app's queues, and what matches a message.

Changes when a handler is chosen otherwise.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.message.origin import Origin
from amqpjobs.jobs.message.properties import Headers
from amqpjobs.jobs.queue.exchange import Binding, Exchange
from amqpjobs.jobs.queue.queue import route_of

if TYPE_CHECKING:
    from amqpjobs.jobs.definition import Definition


def _check(definition: "Definition") -> None:
    if definition.is_method:
        raise definition.fail("a method cannot handle events: none of them has its object")
    if definition.rules.deduplicates:
        raise definition.fail(
            "unique= and debounce= are for what the app enqueues, and others publish these events: "
            "handle each, or enqueue a job with unique= in the handler"
        )


class Route(NamedTuple):
    """A binding, and the job that handles what comes by it."""

    binding: Binding
    job: "Definition"


class Routes:
    """The bindings of an app, by AMQP queue.

    Attributes:
        exchanges: that are bound or published to, by name.
    """

    def __init__(self) -> None:
        self.exchanges: dict[str, Exchange] = {}
        self._routes: dict[str, list[Route]] = {}

    def __bool__(self) -> bool:
        return bool(self._routes)

    def __repr__(self) -> str:
        return f"<Routes: {len(self._routes)} queues bound to {len(self.exchanges)} exchanges>"

    @property
    def bindings(self) -> Mapping[str, Sequence[Binding]]:
        """What each AMQP queue is bound to. A binding of several jobs' is there once."""
        return {
            queue: tuple(dict.fromkeys(route.binding for route in routes))
            for queue, routes in self._routes.items()
        }

    def of(self, queue: str) -> Sequence[Route]:
        """The routes of an AMQP queue, the most specific first."""
        return self._routes.get(queue, ())

    def add_exchange(self, exchange: Exchange) -> None:
        """Register an exchange.

        Raises:
            ConfigurationError: it was defined differently.
        """
        if self.exchanges.setdefault(exchange.name, exchange) != exchange:
            raise ConfigurationError(
                f"exchange {exchange.name!r} is defined twice, differently: define it once, and "
                "give the same object to every handler"
            )

    def add(self, definition: "Definition") -> None:
        """Register what a job listens to.

        Raises:
            ConfigurationError: the job cannot handle events; another job of the queue listens to
                the same; or an exchange is defined differently.
        """
        if definition.bindings:
            _check(definition)
        for binding in definition.bindings:
            self.add_exchange(binding.exchange)
            queue, _ = route_of(definition.queue, definition.bound_priority)
            routes = self._routes.setdefault(queue, [])
            for route in routes:
                if route.binding == binding:
                    raise definition.fail(
                        f"the job {route.job.name!r} gets {binding} from the queue {queue!r} "
                        "already. Each message runs one job: give this one a queue of its own"
                    )
            routes.append(Route(binding, definition))
            routes.sort(key=lambda route: route.binding.rank, reverse=True)

    def find(self, queue: str, origin: Origin, headers: Headers) -> "Definition | None":
        """The job that handles a message: the one with the most specific binding; None if no
        binding of the queue matches it.

        Args:
            queue: the AMQP queue that it came from.
            origin: where it was published.
            headers: of the message.
        """
        found: Definition | None = None
        for binding, job in self._routes.get(queue, ()):
            if binding.exchange.name != origin.exchange:
                # It may have come over a binding between two exchanges.
                indirect = found is None and self._is_indirect(queue, origin)
                if indirect and binding.matches(origin.routing_key, headers):
                    found = job
            elif binding.matches(origin.routing_key, headers):
                return job
        return found

    def _is_indirect(self, queue: str, origin: Origin) -> bool:
        """Whether the queue is not bound to the exchange that the message was published to."""
        return all(r.binding.exchange.name != origin.exchange for r in self._routes[queue])
