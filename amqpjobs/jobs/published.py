"""The events that an app says it publishes: their exchange, key and type. Changes when an event may
be declared otherwise."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from amqpjobs.errors import ConfigurationError, InvalidArguments
from amqpjobs.jobs.message.bodies import Body
from amqpjobs.jobs.message.properties import NO_HEADERS
from amqpjobs.jobs.queue.exchange import Binding, Exchange, fits


@dataclass(frozen=True, slots=True)
class Published:
    """Events of one type.

    Attributes:
        binding: the exchange, and the key or pattern of keys that they are published with.
        type: what a payload is validated as; None for anything.
        body: the format; None for JSON.
    """

    binding: Binding
    type: Any
    body: Body | None = None

    @property
    def exchange(self) -> Exchange:
        """Where they are published."""
        return self.binding.exchange

    def validated(self, payload: Any, key: str) -> Any:
        """A payload as its type has it.

        Args:
            payload: what the caller gave.
            key: the routing key, for the error.

        Raises:
            InvalidArguments: it does not fit; the message shows no value.
        """
        if self.type is None:
            return payload
        # Here, so that an app without events does not import pydantic.
        from pydantic import ValidationError

        from amqpjobs.jobs.message.arguments import jsonable
        from amqpjobs.jobs.roundtrip.encoded_bytes import adapter_of
        from amqpjobs.jobs.roundtrip.findings import findings

        adapter = adapter_of(jsonable(self.type))
        try:
            return adapter.validate_python(payload)
        except ValidationError as error:
            found = [f"{place or 'payload'}: {what}" for place, what in findings(error, adapter)]
            raise InvalidArguments(f"the event {key!r}: {'; '.join(found)}", job="") from None


class Publications:
    """The events that an app says it publishes."""

    def __init__(self) -> None:
        self._all: list[Published] = []

    def __iter__(self) -> Iterator[Published]:
        return iter(self._all)

    def __repr__(self) -> str:
        return f"<Publications: {len(self._all)}>"

    def add(self, exchange: Exchange, key: str, type_: Any, body: Body | None) -> None:
        """Declare events.

        Raises:
            ConfigurationError: they are declared already.
        """
        if not fits(key):
            raise ConfigurationError(f"the routing key of an event is a short text, not {key!r}")
        binding = Binding(exchange, key)
        if any(each.binding == binding for each in self._all):
            raise ConfigurationError(f"the events {binding} are declared twice")
        self._all.append(Published(binding, type_, body))
        self._all.sort(key=_rank, reverse=True)

    def find(self, exchange: str, key: str) -> Published | None:
        """What is declared of an event; None for nothing."""
        for each in self._all:
            same = each.exchange.name == exchange
            if same and (each.binding.key == key or each.binding.matches(key, NO_HEADERS)):
                return each
        return None


def _rank(published: Published) -> tuple[int, ...]:
    return published.binding.rank
