"""Publishes events: messages that go to an exchange, and from there to whoever is bound to it.

Changes when an event may say something else of itself.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypedDict

from amqpjobs.client.prepared import Prepared
from amqpjobs.client.propagation import propagated_headers
from amqpjobs.errors import ConfigurationError, MessageTooLarge, PublishRejected, Unroutable
from amqpjobs.jobs.durations import Seconds, seconds_above_zero
from amqpjobs.jobs.hints import did_you_mean
from amqpjobs.jobs.message.bodies import Encoded, GivenBody, body_of
from amqpjobs.jobs.message.carried import check_id
from amqpjobs.jobs.message.encoding import encoded
from amqpjobs.jobs.message.ids import new_job_id
from amqpjobs.jobs.message.own_headers import NO_OWN_HEADERS, HeaderValue, OwnHeaders, header_fields
from amqpjobs.jobs.message.properties import PERSISTENT, FieldValue, Properties
from amqpjobs.jobs.queue.exchange import LONGEST, Exchange, fits
from amqpjobs.jobs.run_context import current_context
from amqpjobs.telemetry.traces.propagation import outgoing_trace

if TYPE_CHECKING:
    from amqpjobs.client.publisher import Publisher
    from amqpjobs.jobs.runtime import Runtime

LONGEST_WAIT = 86_400.0
"""Seconds that a confirm may be waited for."""

MOST_PRIORITY = 255


class EventOptions(TypedDict, total=False):
    """What may be said of an event; see `App.publish`."""

    headers: Mapping[str, HeaderValue | None] | None
    type: str | None
    id: str | None
    priority: int | None
    body: GivenBody


class Events:
    """Publishes the events of an app.

    Args:
        runtime: whose.
        open_publisher: opens the publisher of the running event loop.
    """

    def __init__(
        self, runtime: "Runtime", open_publisher: "Callable[[], Awaitable[Publisher]]"
    ) -> None:
        self._settings = runtime.settings
        self._registry = runtime.registry
        self._time = runtime.clock.time
        self._open = open_publisher

    def exchange(self, given: Exchange | str) -> Exchange:
        """The exchange that is meant; it is one of the app's from now on.

        Raises:
            ConfigurationError: a name that the app does not know; or it is defined otherwise.
        """
        known = self._registry.routes.exchanges
        if isinstance(given, Exchange):
            self._registry.routes.add_exchange(given)
            return given
        if isinstance(given, str) and given in known:
            return known[given]
        hint = did_you_mean(str(given), known)
        raise ConfigurationError(
            f"the app {self._registry.name!r} has no exchange {given!r}: give the exchange itself, "
            f'such as Exchange("orders", type="topic"){hint}'
        )

    def prepare(
        self, exchange: Exchange | str, key: str, payload: Any, options: EventOptions
    ) -> Prepared:
        """An event as it is going to be published, but for its trace.

        Raises:
            InvalidArguments: the payload cannot be encoded.
            MessageTooLarge, ConfigurationError: it cannot be sent.
        """
        place = self.exchange(exchange)
        _check_key(place, key)
        made = self._encoded(place, key, payload, options.get("body"))
        largest = self._settings.max_message_size
        event_id = options.get("id")
        event_id = new_job_id() if event_id is None else check_id(event_id)
        if len(made.data) > largest:
            raise MessageTooLarge(
                f"the event {key!r} of {place.name!r} has {len(made.data)} bytes, the limit is "
                f"{largest}: store large data elsewhere and send where it is, or raise "
                "AMQPJOBS_MAX_MESSAGE_SIZE",
                message_id=event_id,
            )
        properties = Properties(
            content_type=made.content_type,
            headers={**self._headers(options.get("headers")), **header_fields(made.headers)},
            delivery_mode=PERSISTENT,
            priority=_priority(options.get("priority")),
            message_id=event_id,
            timestamp=int(self._time()),
            type=_type(options.get("type")),
            app_id=self._registry.name,
        )
        return Prepared(
            event_id, _name(place.name, key), key, properties, made.data, exchange=place.name
        )

    def traced(self, event: Prepared) -> Prepared:
        """The same with the current trace, for one that is stored."""
        return _with_headers(event, outgoing_trace(current_context.get()))

    async def publish(
        self, event: Prepared, *, mandatory: bool, timeout: Seconds | None = None
    ) -> None:
        """Publish an event, and wait for the confirm. See `App.publish`.

        Raises:
            PublishError: one of its kinds; see there.
        """
        limit = self._settings.publish_timeout
        seconds = limit if timeout is None else seconds_above_zero("timeout", timeout, LONGEST_WAIT)
        publisher = await self._open()
        exchange, tracing = event.exchange, publisher.traced.now()
        meter = publisher.meter
        with nullcontext() if meter is None else meter.publishing(exchange, None):
            if tracing is None:
                await self._publish(publisher, self.traced(event), mandatory, seconds)
                publisher.published(event)
                return
            with tracing.sending(
                exchange, event.job_id, None, delayed=True, routing_key=event.routing_key
            ) as sending:
                traced = _with_headers(event, sending.headers)
                await self._publish(publisher, traced, mandatory, seconds)
        publisher.published(event)

    async def _publish(
        self, publisher: "Publisher", event: Prepared, mandatory: bool, seconds: float
    ) -> None:
        exchange = self._registry.routes.exchanges[event.exchange]
        clock = asyncio.get_running_loop().time
        end = clock() + seconds
        await publisher.exchanges.ensure_within(exchange.name, seconds, event.job_id)
        try:
            await self._send(publisher, event, mandatory, max(0.0, end - clock()))
        except PublishRejected as error:
            if not _is_missing(error):
                raise
            if not await publisher.exchanges.restored(exchange, max(0.0, end - clock())):
                raise _missing(event, error) from None
            await self._send(publisher, event, mandatory, max(0.0, end - clock()))
        except Unroutable as error:
            raise Unroutable(
                f"no queue is bound for the event {event.routing_key!r} of the exchange "
                f"{event.exchange!r}: it is stored nowhere. Without mandatory=True that is "
                "no error",
                message_id=event.job_id,
            ) from error

    async def _send(
        self, publisher: "Publisher", event: Prepared, mandatory: bool, seconds: float
    ) -> None:
        await publisher.exchanges.publication.publish(
            event.exchange, event.routing_key, event.properties, event.body, seconds,
            mandatory=mandatory,
        )  # fmt: skip

    def _encoded(self, exchange: Exchange, key: str, payload: Any, body: GivenBody) -> Encoded:
        published = self._registry.published.find(exchange.name, key)
        if published is not None:
            payload = published.validated(payload, key)
            body = published.body if body is None else body
        return encoded(body_of(body), payload, source=self._registry.name, type_=key)

    def _headers(self, given: Mapping[str, HeaderValue | None] | None) -> dict[str, FieldValue]:
        own = NO_OWN_HEADERS if given is None else OwnHeaders(NO_OWN_HEADERS).merged(given)
        names = self._registry.propagate
        passed = None if names is None else propagated_headers(names, own)
        return header_fields(own if passed is None else passed)


def _with_headers(event: Prepared, headers: Mapping[str, FieldValue]) -> Prepared:
    properties = event.properties._replace(headers={**event.properties.headers, **headers})
    return replace(event, properties=properties)


def _name(exchange: str, key: str) -> str:
    """What an event is called where jobs have their names."""
    return f"{exchange}:{key}"[:LONGEST]


def _check_key(exchange: Exchange, key: object) -> None:
    if not isinstance(key, str) or not fits(key):
        raise ConfigurationError(f"a routing key is a str of at most {LONGEST} bytes, not {key!r}")
    if exchange.type == "topic" and {"*", "#"} & set(key.split(".")):
        raise ConfigurationError(
            f"the routing key {key!r} has a wildcard: these are for handlers. Publish with the "
            "key of the one event that happened"
        )


def _priority(given: object) -> int | None:
    if given is None or (type(given) is int and 0 <= given <= MOST_PRIORITY):
        return given
    raise ConfigurationError(f"priority is a number from 0 to {MOST_PRIORITY}, not {given!r}")


def _type(given: object) -> str | None:
    if given is None or (isinstance(given, str) and given and fits(given)):
        return given
    raise ConfigurationError(f"type is a str of 1 to {LONGEST} bytes, not {given!r}")


def _is_missing(error: PublishRejected) -> bool:
    return "NOT_FOUND" in str(error)


def _missing(event: Prepared, error: PublishRejected) -> PublishRejected:
    return PublishRejected(
        f"the exchange {event.exchange!r} does not exist, and this app may not declare it: run "
        "`amqpjobs topology apply`, or ask its owner to declare it",
        message_id=error.message_id,
        for_good=False,
    )
