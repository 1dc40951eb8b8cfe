"""Exchanges: which queues and further exchanges a message goes to by its routing key or headers.

Changes when an exchange type is added, or chooses in another way.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, Union

from amqpjobs.broker.embedded.errors import PRECONDITION_FAILED, Refusal
from amqpjobs.broker.embedded.model.messages import Message
from amqpjobs.broker.embedded.model.terms import Field, erlang, field_named, fields_of
from amqpjobs.broker.embedded.model.topics import Topics
from amqpjobs.broker.embedded.profile import Profile

if TYPE_CHECKING:
    from amqpjobs.broker.embedded.model.queues import Queue

Target: TypeAlias = Union["Queue", "Exchange"]
Arguments: TypeAlias = Mapping[str, Any]

_MATCH = "x-match"
_MATCHES = (b"all", b"any", b"all-with-x", b"any-with-x")


class Binding(NamedTuple):
    """One way out of an exchange. The same one a second time is no second binding.

    Arguments that differ in the type of a value alone make another binding.
    """

    target: Target
    key: str
    arguments: tuple[Field, ...]


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
        self,
        name: str,
        *,
        profile: Profile,
        durable: bool,
        auto_delete: bool,
        internal: bool,
        arguments: Arguments,
    ) -> None:
        self.name = name
        self.profile = profile
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
        binding = Binding(target, key, fields_of(arguments))
        if binding not in self.bindings:
            self.bindings[binding] = None
            target.fed_by.add(self)
            self._added(binding)
            self._look_at_targets()

    def unbind(self, target: Target, key: str, arguments: Arguments) -> bool:
        """Take a binding away; whether there was one."""
        return self.take(Binding(target, key, fields_of(arguments)))

    def forget(self, target: Target) -> bool:
        """Take all bindings to a target away that is being deleted; whether there were any."""
        found = [binding for binding in self.bindings if binding.target is target]
        for binding in found:
            self.take(binding)
        return bool(found)

    def take(self, binding: Binding) -> bool:
        """Take a binding away; whether there was one."""
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

    def __init__(self, name: str, **properties: Any) -> None:
        super().__init__(name, **properties)
        self._wanted: dict[Binding, _Wanted] = {}

    def match(self, key: str, message: Message) -> Iterable[Target]:
        """The targets of the bindings whose arguments the message's headers match."""
        headers = {field.name: field for field in message.fields}
        exact = self.profile.exact_headers
        return dict.fromkeys(
            binding.target
            for binding, wanted in self._wanted.items()
            if wanted.match(headers, exact=exact)
        )

    def validate(self, arguments: Arguments) -> None:
        """The argument ``x-match`` says whether all headers must match, or any."""
        given = field_named(_MATCH, arguments)
        if given is None:
            return
        if given.type != "longstr":
            raise Refusal(
                PRECONDITION_FAILED,
                f"Invalid x-match field type {given.type} (value {erlang(given)}); "
                "expected longstr",
            )
        if given.value not in _MATCHES:
            raise Refusal(
                PRECONDITION_FAILED,
                f"Invalid x-match field value {erlang(given)}; expected all, any, all-with-x, "
                "or any-with-x",
            )

    def _added(self, binding: Binding) -> None:
        self._wanted[binding] = _Wanted.of(binding.arguments)

    def _removed(self, binding: Binding) -> None:
        del self._wanted[binding]


TYPES: dict[str, type[Exchange]] = {kind.type: kind for kind in (Direct, Fanout, Topic, Headers)}


class _Wanted(NamedTuple):
    """What a binding of a headers exchange asks of a message."""

    any: bool
    fields: tuple[Field, ...]

    @classmethod
    def of(cls, arguments: tuple[Field, ...]) -> "_Wanted":
        kind = next((field.value for field in arguments if field.name == _MATCH), b"all")
        with_x = kind in (b"all-with-x", b"any-with-x")
        fields = tuple(
            field
            for field in arguments
            if field.name != _MATCH and (with_x or not field.name.startswith("x-"))
        )
        return cls(kind in (b"any", b"any-with-x"), fields)

    def match(self, headers: Mapping[str, Field], *, exact: bool) -> bool:
        results = (
            (found := headers.get(field.name)) is not None and _same(field, found, exact=exact)
            for field in self.fields
        )
        return any(results) if self.any else all(results)


def _same(wanted: Field, found: Field, *, exact: bool) -> bool:
    """Whether a header has the value that a binding asks for; nothing asks for any value.

    The type of a number does not count, nor whether text was sent as a binary. Up to 3.13 1 is 1.0,
    and a timestamp its seconds. Since then 1 is not 1.0, and a message's timestamp is compared in
    milliseconds, a binding's in seconds.
    """
    if wanted.type == "void":
        return True
    value = found.value
    if not exact:
        return value == wanted.value
    if found.type == "timestamp" and isinstance(value, int):
        value *= 1000
    return type(value) is type(wanted.value) and value == wanted.value


def _count_up(counts: dict[Target, int], target: Target) -> None:
    counts[target] = counts.get(target, 0) + 1


def _count_down(counts: dict[Target, int], target: Target) -> None:
    counts[target] -= 1
    if not counts[target]:
        del counts[target]
