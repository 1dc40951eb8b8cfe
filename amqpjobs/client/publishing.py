"""What an app has for events: `App.publish` and `App.publishes`. Changes when a program may say
something else of the events that it publishes."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.durations import Seconds
from amqpjobs.jobs.message.bodies import GivenBody, body_of
from amqpjobs.jobs.message.own_headers import HeaderValue
from amqpjobs.jobs.once import session_here
from amqpjobs.jobs.queue.exchange import Exchange
from amqpjobs.jobs.within import AsyncTransaction, Transaction

if TYPE_CHECKING:
    from amqpjobs.client.client import Client
    from amqpjobs.client.events import EventOptions
    from amqpjobs.jobs.registry import Registry


class PublishesEvents:
    """What an `App` has for events that it publishes."""

    _registry: "Registry"

    @property
    def client(self) -> "Client":
        """The client of the app."""
        raise NotImplementedError

    def within(self, transaction: Any, *, key: str | None = None) -> Any:
        """See `App.within`."""
        raise NotImplementedError

    def publishes(
        self,
        exchange: Exchange,
        key: str = "",
        type: Any = None,  # noqa: A002 - as `publish` has it
        *,
        body: GivenBody = None,
    ) -> None:
        """Declare events that this app publishes. `App.publish` validates their payloads, the
        AsyncAPI document describes them, and `amqpjobs topology` declares the exchange and grants
        what publishing needs. It is optional: what is not declared can be published, too.

        Args:
            exchange: where they are published.
            key: the routing key, or for a topic exchange a pattern of keys.
            type: of their payload: what pydantic validates, such as a model; None for anything.
            body: the format of their messages, such as ``CloudEvent``; None for JSON.

        Raises:
            ConfigurationError: declared twice, or a type that pydantic does not know.

        Example:
            >>> orders = Exchange("orders", type="topic")
            >>> app.publishes(orders, "order.placed", dict[str, int])
        """
        if not isinstance(exchange, Exchange):
            raise ConfigurationError(f'publishes takes an Exchange("name"), not {exchange!r}')
        self._registry.routes.add_exchange(exchange)
        self._registry.published.add(exchange, key, type, body_of(body))

    async def publish(
        self,
        exchange: Exchange | str,
        key: str = "",
        payload: Any = None,
        *,
        mandatory: bool = False,
        headers: Mapping[str, HeaderValue | None] | None = None,
        type: str | None = None,  # noqa: A002 - AMQP's own word
        id: str | None = None,  # noqa: A002 - as `handle.id`
        priority: int | None = None,
        body: GivenBody = None,
        timeout: Seconds | None = None,
        within: AsyncTransaction | Transaction | None = None,
    ) -> str:
        """Publish an event: a message for every queue that is bound for it, of this app or of
        others. Returns once RabbitMQ has stored it in all of these queues and has confirmed.

        An app that handles it runs the handler of `App.on` whose pattern matches the key. The
        exchange is declared before its first event, if it is not foreign.

        Args:
            exchange: the exchange, or the name of one that the app has.
            key: the routing key; empty for fanout and headers exchanges.
            payload: what happened: a pydantic model, a dataclass, or anything that can become JSON.
            mandatory: raise `Unroutable` where no queue is bound for it. Without it the event is
                dropped then, which is no error.
            headers: a str, bool, int or float each: for headers exchanges, and for ``ctx.headers``.
            type: the AMQP ``type``. An amqpjobs app that has a job of this name runs that job.
            id: of the event, 1 to 255 bytes of text; None for a new one.
            priority: from 0 to 255, for classic queues with priorities.
            body: the format: ``CloudEvent``, ``MsgPack``, ``Text``, ``Bytes``, or an object with
                ``load`` and ``dump``; None for what `publishes` has declared, else JSON.
            timeout: seconds, or a timedelta, for the confirm; None for the setting
                ``AMQPJOBS_PUBLISH_TIMEOUT``.
            within: a transaction of yours: the event is stored in it, and published after its
                commit. See `App.within`. Inside of a job with ``once=`` it is that of the job.

        Returns:
            The id of the event, which handlers have as ``ctx.event.id``.

        Raises:
            Unroutable: with `mandatory`: no queue is bound for it.
            PublishRejected: the exchange does not exist, and is not ours to declare; a queue is
                full; or the user lacks the permission.
            NotConfirmed: not confirmed within the timeout; it may have arrived.
            InvalidArguments: a payload that does not fit what `publishes` has declared.
            ConfigurationError: an option that cannot be used.

        Example:
            >>> orders = Exchange("orders", type="topic")
            >>> event_id = await app.publish(orders, "order.placed", {"order": 7})
        """
        client = self.client
        options: EventOptions = {
            "headers": headers,
            "type": type,
            "id": id,
            "priority": priority,
            "body": body,
        }
        if within is None and self._registry.transactional:
            within = session_here()
        if within is not None:
            if mandatory:
                raise ConfigurationError(
                    "an event of a transaction is published after its commit, when nobody can be "
                    "told that no queue is bound for it: leave mandatory=True out"
                )
            stored = self.within(within).publish(exchange, key, payload, **options)
            event_id: str = stored if isinstance(stored, str) else await stored
            return event_id
        event = client.events.prepare(exchange, key, payload, options)
        await client.events.publish(event, mandatory=mandatory, timeout=timeout)
        return event.job_id
