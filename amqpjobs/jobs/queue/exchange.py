"""Exchanges, and what binds a queue to one, as values. Changes when either gets another option."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.message.properties import FieldValue, Headers

Type: TypeAlias = Literal["topic", "direct", "fanout", "headers"]

Pattern: TypeAlias = str | Mapping[str, Any]
"""What a handler listens to: a routing key, or headers for a headers exchange."""

TYPES = ("topic", "direct", "fanout", "headers")

LONGEST = 255
"""Bytes of a name and of a routing key in AMQP."""

OF_RABBITMQ = "amq."
"""The prefix of the exchanges that RabbitMQ itself has in each virtual host."""

MATCHES = ("all", "any", "all-with-x", "any-with-x")
"""How a headers exchange compares: https://www.rabbitmq.com/docs/exchanges#headers."""

KNOWN_ARGUMENTS = ("alternate-exchange",)

ARGUMENTS: Mapping[str, FieldValue] = MappingProxyType({})


@dataclass(frozen=True)
class Exchange:
    """An exchange: publishers send to it, and it passes each message on to the queues bound to it.

    Args:
        name: its name on the broker.
        type: ``topic``, ``direct``, ``fanout`` or ``headers``.
        foreign: another system declares it. The app checks that it exists, and never declares it.
            The exchanges of RabbitMQ itself, such as ``amq.topic``, are foreign.
        alternate: the name of an exchange that gets what no queue is bound for; None to drop it.

    Raises:
        ConfigurationError: a name, type or alternate exchange that RabbitMQ refuses.

    Example:
        >>> orders = Exchange("orders", type="topic")
        >>> orders.foreign
        False
        >>> Exchange("amq.topic").foreign
        True
    """

    name: str
    type: Type = "topic"
    foreign: bool = False
    alternate: str | None = None

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise ConfigurationError(f"Exchange({self.name!r}): {problem}")
        if self.name.startswith(OF_RABBITMQ):
            object.__setattr__(self, "foreign", True)

    def __hash__(self) -> int:
        return hash(self.name)

    def _problem(self) -> str | None:
        if not _is_name(self.name):
            return (
                f"an exchange has a name of 1 to {LONGEST} bytes. The default exchange cannot be "
                "bound: give its queue's name to a job instead"
            )
        if self.type not in TYPES:
            return f"type is one of {', '.join(TYPES)}, not {self.type!r}"
        if self.name.startswith("amqpjobs."):
            return "names with 'amqpjobs.' in front belong to amqpjobs"
        alternate = self.alternate
        if alternate is not None and (self.foreign or not _is_name(alternate)):
            return "alternate is the name of an exchange, and needs one that this app declares"
        return None

    @property
    def arguments(self) -> Mapping[str, str]:
        """The arguments of its declaration."""
        return {} if self.alternate is None else {"alternate-exchange": self.alternate}


def _is_name(given: object) -> bool:
    return bool(given) and fits(given)


def fits(given: object) -> bool:
    """Whether it is a text that AMQP can carry as a name or a routing key."""
    try:
        return isinstance(given, str) and len(given.encode()) <= LONGEST
    except UnicodeEncodeError:  # half of a pair of surrogates
        return False


@dataclass(frozen=True, slots=True)
class Binding:
    """What a handler listens to: one pattern of one exchange.

    Attributes:
        exchange: which.
        key: the routing key or pattern; empty for fanout and headers exchanges.
        arguments: the headers to match, with ``x-match``; empty for the other types.
    """

    exchange: Exchange
    key: str = ""
    arguments: Mapping[str, FieldValue] = field(default_factory=dict)

    def __hash__(self) -> int:
        return hash((self.exchange.name, self.key))

    def matches(self, key: str, headers: Headers) -> bool:
        """Whether the exchange passes a message on because of this binding.

        Args:
            key: the routing key of the message.
            headers: of the message.
        """
        match self.exchange.type:
            case "fanout":
                return True
            case "direct":
                return key == self.key
            case "headers":
                return _has_headers(self.arguments, headers)
            case _:
                return _matches_words(self.key.split("."), key.split("."))

    @property
    def rank(self) -> tuple[int, ...]:
        """The higher, the more specific: more words that are no wildcard come first, then a word
        before ``*`` before ``#`` from the left."""
        if self.exchange.type == "headers":
            return (len(self.arguments),)
        if self.exchange.type == "fanout":
            return ()
        words = [{"#": 0, "*": 1}.get(word, 2) for word in self.key.split(".")]
        if self.exchange.type == "direct":
            words = [2]
        return (words.count(2), *words)

    def __str__(self) -> str:
        what = dict(self.arguments) if self.exchange.type == "headers" else self.key
        return f"{what!r} of the exchange {self.exchange.name!r}"


def bindings_of(exchange: Exchange, patterns: Iterable[Pattern]) -> tuple[Binding, ...]:
    """The bindings that these patterns mean.

    Raises:
        ConfigurationError: a pattern that this type of exchange cannot match.
    """
    given = tuple(patterns)
    if exchange.type == "fanout":
        if given:
            raise ConfigurationError(
                f"the fanout exchange {exchange.name!r} passes on every message: leave the "
                "patterns out"
            )
        return (Binding(exchange),)
    if not given:
        example = '{"format": "pdf"}' if exchange.type == "headers" else '"order.placed"'
        raise ConfigurationError(
            f"say what to get of the {exchange.type} exchange {exchange.name!r}, such as {example}"
        )
    made = tuple(_binding(exchange, pattern) for pattern in given)
    if len({str(each) for each in made}) < len(made):
        raise ConfigurationError(f"a pattern of the exchange {exchange.name!r} is given twice")
    return made


def _binding(exchange: Exchange, pattern: Pattern) -> Binding:
    problem = None
    if exchange.type == "headers":
        if not isinstance(pattern, Mapping):
            problem = 'a headers exchange compares headers: {"format": "pdf", "x-match": "all"}'
        elif pattern.get("x-match", "all") not in MATCHES:
            problem = f"x-match is one of {', '.join(MATCHES)}"
        else:
            problem = _header_problem(pattern)
            if problem is None:
                return Binding(exchange, "", {"x-match": "all", **pattern})
    elif not isinstance(pattern, str):
        problem = "a routing key is a str"
    elif not fits(pattern):
        problem = f"a routing key is text of {LONGEST} bytes at most"
    elif exchange.type == "direct" and {"*", "#"} & set(pattern.split(".")):
        problem = "a direct exchange knows no wildcards: use type='topic', or name each key"
    if problem is not None:
        raise ConfigurationError(f"exchange {exchange.name!r}, {pattern!r}: {problem}")
    assert isinstance(pattern, str)  # noqa: S101 - a mapping was returned above
    return Binding(exchange, pattern)


def _header_problem(pattern: Mapping[str, Any]) -> str | None:
    for name, value in pattern.items():
        if not _is_name(name):
            return f"the name of a header is a str of 1 to {LONGEST} bytes, not {name!r}"
        if value is not None and not isinstance(value, str | bool | int | float):
            return (
                f"header {name!r} is compared with a str, bool, int or float, or with None for "
                f"any value, not with {type(value).__name__}"
            )
    return None


def _matches_words(pattern: list[str], key: list[str]) -> bool:
    """Topic matching: ``*`` is one word, ``#`` any number of words. Linear in memory, since a
    pattern with many ``#`` must not take exponential time."""
    reached = {0}
    for word in pattern:
        if word == "#":
            reached = set(range(min(reached), len(key) + 1))
        else:
            reached = {i + 1 for i in reached if i < len(key) and word in ("*", key[i])}
        if not reached:
            return False
    return len(key) in reached


def _has_headers(wanted: Mapping[str, FieldValue], headers: Headers) -> bool:
    how = str(wanted.get("x-match", "all"))
    with_x = how.endswith("-with-x")
    compared = [
        name in headers and (value is None or headers[name] == value)
        for name, value in wanted.items()
        if name != "x-match" and (with_x or not name.startswith("x-"))
    ]
    return any(compared) if how.startswith("any") else all(compared)
