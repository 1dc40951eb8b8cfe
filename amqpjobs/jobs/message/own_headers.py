"""The headers that users set: what a call carries beside its arguments, and what a job sees of it.

Changes when another name is reserved, or when a header may have a value of another type.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.message.header_names import PREFIX
from amqpjobs.jobs.message.properties import BROKER_HEADERS, FieldValue, Headers
from amqpjobs.jobs.message.trace_context import BAGGAGE, TRACE_PARENT, TRACE_STATE

HeaderValue: TypeAlias = str | bool | int | float
"""What the value of a header may be."""

LONGEST_NAME: Final = 128
"""Bytes of a header's name."""

LARGEST: Final = 8192
"""Bytes of all headers of one call, as AMQP encodes them. A retry adds errors to them, and all
must fit into one frame, which may be as small as 128 KiB."""

_OURS = PREFIX.decode()
_RESERVED = ("x-", _OURS)
_TRACE = frozenset({TRACE_PARENT, TRACE_STATE, BAGGAGE})
_TAKEN = frozenset({"cc", "bcc"}) | _TRACE
_BROKER = frozenset(name.lower() for name in BROKER_HEADERS)
_INTEGER = 2**63


class OwnHeaders(Mapping[str, HeaderValue]):
    """The headers of a call, checked: a mapping that nothing changes.

    Args:
        given: by name; None for one that is not sent, not even where it is propagated.

    Attributes:
        removed: the names that were given as None.

    Raises:
        ConfigurationError: a name or a value that a message of ours cannot have.
    """

    __slots__ = ("_entries", "removed")

    def __init__(self, given: Mapping[str, HeaderValue | None] = MappingProxyType({})) -> None:
        if not isinstance(given, Mapping):
            raise ConfigurationError(f"headers is a mapping of names to values, not {given!r}")
        for name, value in given.items():
            _check(name, value)
        self._entries = {name: value for name, value in given.items() if value is not None}
        self.removed = frozenset(given) - self._entries.keys()
        size = sum(size_of(name, value) for name, value in self._entries.items())
        if size > LARGEST:
            raise ConfigurationError(
                f"the headers have {size} bytes, and {LARGEST} is the limit: send what is large as "
                "an argument"
            )

    def __getitem__(self, name: str) -> HeaderValue:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __hash__(self) -> int:
        return hash(frozenset(self._entries.items()))

    def __repr__(self) -> str:
        return repr(self._entries)

    def merged(self, more: Mapping[str, HeaderValue | None]) -> "OwnHeaders":
        """These and more of them; one of the same name replaces, and None removes.

        Raises:
            ConfigurationError: as above.
        """
        if not isinstance(more, Mapping):
            raise ConfigurationError(f"headers is a mapping of names to values, not {more!r}")
        return OwnHeaders({**dict.fromkeys(self.removed), **self._entries, **more})


NO_OWN_HEADERS: Final = OwnHeaders()


def header_fields(headers: Mapping[str, HeaderValue]) -> dict[str, FieldValue]:
    """What a message says of a call's headers, checked: middleware may have replaced them.

    Raises:
        ConfigurationError: a name or a value that a message of ours cannot have.
    """
    return dict(headers if type(headers) is OwnHeaders else OwnHeaders(headers))


def own_headers(headers: Headers) -> Mapping[str, FieldValue]:
    """The headers of a message that are neither ours nor RabbitMQ's nor the trace's. Any program
    may have written them, with values of any type that AMQP has."""
    return MappingProxyType({
        name: value for name, value in headers.items() if not _is_internal(name.lower())
    })  # fmt: skip


def propagated(
    headers: Headers, names: Iterable[str], set_by_call: Mapping[str, HeaderValue]
) -> OwnHeaders | None:
    """The headers of a call that a job makes: with some of the job's own.

    Args:
        headers: of the job's message. What no call could have set is not propagated.
        names: to propagate.
        set_by_call: what the call says itself, which comes first; None removes.

    Returns:
        All headers of the call; None if nothing comes to those that it has.

    Raises:
        ConfigurationError: they are too large together.
    """
    own = set_by_call if type(set_by_call) is OwnHeaders else OwnHeaders(set_by_call)
    more: dict[str, HeaderValue | None] = {}
    for name in names:
        value = headers.get(name)
        if name in own or name in own.removed or _value_problem(value):
            continue
        more[name] = value  # type: ignore[assignment]
    return OwnHeaders({**dict.fromkeys(own.removed), **more, **own}) if more else None


def headers_from(entries: Iterable[str]) -> dict[str, HeaderValue | None] | None:
    """Headers as people write them: ``tenant=acme`` each; None for no entry.

    Raises:
        ConfigurationError: an entry without a value, or a name that comes twice.
    """
    headers: dict[str, HeaderValue | None] = {}
    for entry in entries:
        name, equals, value = entry.partition("=")
        if not equals:
            raise ConfigurationError(f"the header {entry!r} has no value: write name=value")
        if name in headers:
            raise ConfigurationError(f"the header {name!r} is given twice")
        headers[name] = value
    return headers or None


def check_names(names: Iterable[str], what: str) -> tuple[str, ...]:
    """Names of headers as they are, checked.

    Raises:
        ConfigurationError: one that a call cannot set.
    """
    if isinstance(names, str):
        raise ConfigurationError(f"{what} is several names: write {what}=({names!r},)")
    checked = tuple(names)
    for name in checked:
        if problem := _name_problem(name):
            raise ConfigurationError(f"{what}: {problem}")
    return checked


def _check(name: object, value: object) -> None:
    if problem := _name_problem(name):
        raise ConfigurationError(problem)
    if value is not None and (problem := _value_problem(value)):
        raise ConfigurationError(f"header {name!r}: {problem}")


def _name_problem(name: object) -> str | None:
    if not isinstance(name, str):
        return f"the name of a header is a str, not {name!r}"
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return f"the name of a header is not text that UTF-8 can hold: {name!r}"
    if not 1 <= size <= LONGEST_NAME:
        return f"the name of a header has 1 to {LONGEST_NAME} bytes, not {size}: {name[:40]!r}"
    lower = name.lower()
    if lower.startswith(_RESERVED):
        owner = "amqpjobs" if lower.startswith(_OURS) else "RabbitMQ"
        return f"headers whose names begin like {name!r} belong to {owner}: use another name"
    if lower in _TAKEN:
        owner = "trace context" if lower in _TRACE else "RabbitMQ's"
        return f"the header {name!r} is {owner}: use another name"
    return None


def _value_problem(value: object) -> str | None:
    match value:
        case str():
            try:
                size = len(value.encode())
            except UnicodeEncodeError:
                return "its value is not text that UTF-8 can hold"
            return None if size <= LARGEST else f"its value has over {LARGEST} bytes"
        case bool():
            return None
        case int():
            return None if -_INTEGER <= value < _INTEGER else "the number does not fit in 64 bits"
        case float():
            return None if math.isfinite(value) else f"{value!r} is not a finite number"
    return f"a value is a str, bool, int or float, not {type(value).__name__}; use an argument"


def size_of(name: str, value: HeaderValue) -> int:
    """Bytes of a header in an AMQP table: a length octet and the name, a tag, the value."""
    match value:
        case str():
            content = 4 + len(value.encode())
        case bool():
            content = 1
        case int():
            content = 4 if -(2**31) <= value < 2**31 else 8
        case _:
            content = 8
    return 2 + len(name.encode()) + content


def _is_internal(name: str) -> bool:
    return name.startswith(_OURS) or name in _BROKER or name in _TRACE
