"""Exchanges: which queues and further exchanges a message goes to by its routing key or headers.

Changes when an exchange type is added, or chooses in another way.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, Union

from amqpjobs.broker.embedded.errors import PRECONDITION_FAILED, Refusal
from amqpjobs.broker.embedded.model.messages import Message
from amqpjobs.broker.embedded.model.topics import Topics

if TYPE_CHECKING:
    from amqpjobs.broker.embedded.model.queues import Queue

Target: TypeAlias = Union["Queue", "Exchange"]
Arguments: TypeAlias = Mapping[str, Any]

_MATCHES = ("all", "any", "all-with-x", "any-with-x")


class Binding(NamedTuple):
    """One way out of an exchange. The same one a second time is no second binding."""

    target: Target
    key: str
    arguments: tuple[tuple[str, Any], ...]


class Exchange:
    """An exchange of no type in particular: the types say which `match` their bindings have.

    Attributes:
        alternate: where a message goes that no binding matches.
        fed_by: the exchanges that have bindings to this one.
        is_plain: whether all its bindings lead to queues, and it has no alternate: `match` is then
            all there is to routing.
    """

    type = ""

    def __init__(
        self, name: str, *, durable: bool, auto_delete: bool, internal: bool, arguments: Arguments
    ) -> None:
        self.name = name
        self.durable = durable
        self.auto_delete = auto_delete
        self.internal = internal
        self.arguments = dict(arguments)
        self.alternate: str | None = arguments.get("alternate-exchange")
        self.bindings: dict[Binding, None] = {}
        self.fed_by: set[Exchange] = set()
        self.is_plain = self.alternate is None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}, {len(self.bindings)} bindings>"

    def match(self, key: str, message: Message) -> Iterable[Target]:
        """Where the bindings lead that match, each target once."""
        raise NotImplementedError

    def validate(self, arguments: Arguments) -> None:
        """Look at a binding's arguments.

        Raises:
            Refusal: this type of exchange cannot have them.
        """

    def bind(self, target: Target, key: str, arguments: Arguments) -> None:
        """Add a binding, if there is not the same one."""
        binding = Binding(target, key, _frozen(arguments))
        if binding not in self.bindings:
            self.bindings[binding] = None
            target.fed_by.add(self)
            self._added(binding)
            self._look_at_targets()

    def unbind(self, target: Target, key: str, arguments: Arguments) -> bool:
        """Take a binding away; whether there was one."""
        return self._take(Binding(target, key, _frozen(arguments)))

    def forget(self, target: Target) -> bool:
        """Take all bindings to a target away that is being deleted; whether there were any."""
        found = [binding for binding in self.bindings if binding.target is target]
        for binding in found:
            self._take(binding)
        return bool(found)

    def _take(self, binding: Binding) -> bool:
        if binding not in self.bindings:
            return False
        del self.bindings[binding]
        self._removed(binding)
        if all(other.target is not binding.target for other in self.bindings):
            binding.target.fed_by.discard(self)
        self._look_at_targets()
        return True

    def _look_at_targets(self) -> None:
        onward = any(isinstance(binding.target, Exchange) for binding in self.bindings)
        self.is_plain = self.alternate is None and not onward

    def _added(self, binding: Binding) -> None:
        """Make the new binding known to `match`."""

    def _removed(self, binding: Binding) -> None:
        """Undo `_added`."""


class Direct(Exchange):
    """The routing key is the binding's key."""

    type = "direct"

    def __init__(self, name: str, **properties: Any) -> None:
        super().__init__(name, **properties)
        self._table: dict[str, dict[Target, int]] = {}

    def match(self, key: str, message: Message) -> Iterable[Target]:
        """The targets of the bindings that have this key."""
        return self._table.get(key, ())

    def _added(self, binding: Binding) -> None:
        _count_up(self._table.setdefault(binding.key, {}), binding.target)

    def _removed(self, binding: Binding) -> None:
        targets = self._table[binding.key]
        _count_down(targets, binding.target)
        if not targets:
            del self._table[binding.key]


class Fanout(Exchange):
    """Every binding matches."""

    type = "fanout"

    def __init__(self, name: str, **properties: Any) -> None:
        super().__init__(name, **properties)
        self._targets: dict[Target, int] = {}

    def match(self, key: str, message: Message) -> Iterable[Target]:
        """All targets."""
        return self._targets

    def _added(self, binding: Binding) -> None:
        _count_up(self._targets, binding.target)

    def _removed(self, binding: Binding) -> None:
        _count_down(self._targets, binding.target)


class Topic(Exchange):
    """The binding's key is a pattern."""

    type = "topic"

    def __init__(self, name: str, **properties: Any) -> None:
        super().__init__(name, **properties)
        self._topics: Topics[Target] = Topics()

    def match(self, key: str, message: Message) -> Iterable[Target]:
        """The targets of the patterns that the key matches."""
        return self._topics.match(key)

    def _added(self, binding: Binding) -> None:
        self._topics.add(binding.key, binding.target)

    def _removed(self, binding: Binding) -> None:
        self._topics.remove(binding.key, binding.target)


class Headers(Exchange):
    """The binding's arguments are headers that all (or any) must be there, with the same values."""

    type = "headers"

    def match(self, key: str, message: Message) -> Iterable[Target]:
        """The targets of the bindings whose arguments the message's headers match."""
        headers = message.headers
        return dict.fromkeys(
            binding.target
            for binding in self.bindings
            if _headers_match(dict(binding.arguments), headers)
        )

    def validate(self, arguments: Arguments) -> None:
        """The argument ``x-match`` says whether all headers must match, or any."""
        wanted = arguments.get("x-match", "all")
        if not isinstance(wanted, str):
            raise Refusal(
                PRECONDITION_FAILED,
                f"Invalid x-match field type {type(wanted).__name__} (value {wanted}); "
                "expected longstr",
            )
        if wanted not in _MATCHES:
            raise Refusal(
                PRECONDITION_FAILED,
                f'Invalid x-match field value <<"{wanted}">>; expected all, any, all-with-x, '
                "or any-with-x",
            )


TYPES: dict[str, type[Exchange]] = {kind.type: kind for kind in (Direct, Fanout, Topic, Headers)}


def _headers_match(wanted: Arguments, headers: Mapping[str, Any]) -> bool:
    kind = wanted.get("x-match", "all")
    results = (
        name in headers and (value is None or _same(headers[name], value))
        for name, value in wanted.items()
        if name != "x-match" and (kind.endswith("-with-x") or not name.startswith("x-"))
    )
    return any(results) if kind.startswith("any") else all(results)


def _same(one: Any, other: Any) -> bool:
    # In Python True is 1; in a field table it is not.
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _frozen(arguments: Arguments) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted((name, _hashable(value)) for name, value in arguments.items()))


def _hashable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _frozen(value)
    if isinstance(value, list):
        return tuple(map(_hashable, value))
    return value


def _count_up(counts: dict[Target, int], target: Target) -> None:
    counts[target] = counts.get(target, 0) + 1


def _count_down(counts: dict[Target, int], target: Target) -> None:
    counts[target] -= 1
    if not counts[target]:
        del counts[target]
