"""The events that an app says it publishes: their exchange, key and type. Changes when an event may
be declared otherwise."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.message.properties import NO_HEADERS
from amqpjobs.jobs.queue.exchange import Binding, Exchange


@dataclass(frozen=True, slots=True)
class Published:
    """Events of one type.

    Attributes:
        binding: the exchange, and the key or pattern of keys that they are published with.
        type: what a payload is validated as; None for anything.
    """

    binding: Binding
    type: Any

    @property
    def exchange(self) -> Exchange:
        """Where they are published."""
        return self.binding.exchange


class Publications:
    """The events that an app says it publishes."""

    def __init__(self) -> None:
        self._all: list[Published] = []

    def __iter__(self) -> Iterator[Published]:
        return iter(self._all)

    def __repr__(self) -> str:
        return f"<Publications: {len(self._all)}>"

    def add(self, exchange: Exchange, key: str, type_: Any) -> None:
        """Declare events.

        Raises:
            ConfigurationError: they are declared already.
        """
        if not isinstance(key, str):
            raise ConfigurationError(f"the routing key of an event is a str, not {key!r}")
        binding = Binding(exchange, key)
        if any(each.binding == binding for each in self._all):
            raise ConfigurationError(f"the events {binding} are declared twice")
        self._all.append(Published(binding, type_))
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
