"""Where a value and what came back of it differ.

Equal by ``==`` is equal. An object whose class says nothing of equality is compared by its fields.
Not compared is what its author keeps out of the JSON: private attributes, computed and excluded
fields. Changes when something else counts as the same.
"""

import dataclasses
from collections import deque
from collections.abc import Mapping, Set
from datetime import UTC, datetime
from typing import Any, NamedTuple

from pydantic import BaseModel

ABSENT = object()


class Difference(NamedTuple):
    """One difference.

    Attributes:
        place: the names of fields on the way to it; never the keys of a dict.
        words: what would become of the value, without showing it.
    """

    place: tuple[str, ...]
    words: str

    def at(self, name: str) -> "Difference":
        """The same, seen from one step further outside."""
        return Difference((name, *self.place), self.words)


def equal(a: Any, b: Any) -> bool:
    """Whether ``a == b``, by whatever that class says; False where it cannot say."""
    try:
        return bool(a == b)
    except RecursionError:
        raise
    except Exception:  # noqa: BLE001 - an `__eq__` is the user's; numpy's has no truth
        return False


def differs(a: Any, b: Any) -> Difference | None:
    """The first difference of what was sent from what arrived."""
    return _differs(a, b, loose=False)


def loosely(a: Any, b: Any) -> Difference | None:
    """The same; a list is as good as a tuple."""
    return _differs(a, b, loose=True)


def _differs(a: Any, b: Any, *, loose: bool) -> Difference | None:
    if a is b:
        return None
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return _mappings(a, b, loose)
    if isinstance(a, list | tuple | deque) and (type(a) is type(b) or _both_lists(a, b, loose)):
        return _sequences(a, b, loose)
    if (names := _names(a)) is not None and _origin(a) is _origin(b):
        return _objects(a, b, names, loose)
    if isinstance(a, Set) and isinstance(b, Set) and type(a) is type(b):
        same = equal(a, b) or _same_kinds(a, b)
        return None if same else Difference((), f"{_name(a)} would not come back equal")
    return None if _same(a, b) else Difference((), _words(a, b))


def _both_lists(a: Any, b: Any, loose: bool) -> bool:
    subclass = type(b) in (list, deque) and isinstance(a, type(b))
    return subclass or (loose and isinstance(b, list | tuple | deque))


def _mappings(a: Any, b: Any, loose: bool) -> Difference | None:
    for key, value in a.items():
        other = b.get(key, ABSENT)
        if other is ABSENT:
            kind = type(key).__name__
            return Difference(
                ("[key]",),
                f"a key of type {kind} would arrive as another one; annotate the keys, such as "
                f"dict[{kind}, ...], or use str",
            )
        if (found := _differs(value, other, loose=loose)) is not None:
            return found.at("[key]")
    return None if len(a) == len(b) else Difference((), "it would come back with other keys")


def _sequences(a: Any, b: Any, loose: bool) -> Difference | None:
    if len(a) != len(b):
        return Difference((), "it would come back with another length")
    for index, (mine, other) in enumerate(zip(a, b, strict=True)):
        if (found := _differs(mine, other, loose=loose)) is not None:
            return found.at(str(index))
    return None


def _objects(a: Any, b: Any, names: tuple[str, ...], loose: bool) -> Difference | None:
    for name in names:
        mine, other = _field(a, name), _field(b, name)
        if (found := _differs(mine, other, loose=loose)) is not None:
            return found.at(name)
    extra, other = getattr(a, "__pydantic_extra__", None), getattr(b, "__pydantic_extra__", None)
    return _mappings(extra or {}, other or {}, loose)


def _names(value: Any) -> tuple[str, ...] | None:
    """The fields of an object that travel; None for what is no model."""
    cls = type(value)
    if issubclass(cls, BaseModel):
        return tuple(n for n, field in cls.model_fields.items() if not field.exclude)
    if dataclasses.is_dataclass(cls):
        told = getattr(cls, "__pydantic_fields__", {})
        return tuple(
            f.name
            for f in dataclasses.fields(cls)
            if f.init and not getattr(told.get(f.name), "exclude", None)
        )
    if hasattr(cls, "__attrs_attrs__"):
        return tuple(a.name for a in cls.__attrs_attrs__ if a.init)
    return None


def _field(value: Any, name: str) -> Any:
    # Not by `getattr` alone: a deprecated field of a model warns.
    if isinstance(value, BaseModel):
        return value.__dict__.get(name)
    return getattr(value, name, None)


def _origin(value: Any) -> type:
    """The class; of ``Box[int]`` it is ``Box``."""
    generic = getattr(type(value), "__pydantic_generic_metadata__", None) or {}
    return generic.get("origin") or type(value)


def _same_kinds(a: Any, b: Any) -> bool:
    """For sets of what has no equality of its own."""
    own = any(_has_equality(each) for each in a)
    return not own and len(a) == len(b) and {*map(type, a)} == {*map(type, b)}


def _same(a: Any, b: Any) -> bool:
    if equal(a, b):
        return True
    if type(a) is not type(b):
        # The same moment, at the offset of its time zone.
        return isinstance(a, datetime) and isinstance(b, datetime) and _same_moment(a, b)
    if isinstance(a, datetime):
        return _same_moment(a, b)
    if isinstance(a, float):
        return a != a and b != b
    return not _has_equality(a) or not _comparable(a)


def _same_moment(a: datetime, b: datetime) -> bool:
    # Python never finds a time in a repeated hour equal to one of another zone (PEP 495).
    aware = a.utcoffset() is not None and b.utcoffset() is not None
    return aware and a.astimezone(UTC) == b.astimezone(UTC)


def _has_equality(value: Any) -> bool:
    """Whether its class says more than that an object is itself."""
    own: Any = type(value).__eq__
    return own is not object.__eq__


def _comparable(value: Any) -> bool:
    """Whether its class can tell that it is equal to itself."""
    return equal(value, value)


def _words(a: Any, b: Any) -> str:
    mine, other = _name(a), _name(b)
    if isinstance(a, float) and b is None:
        return "NaN and infinity would arrive as None: JSON has no such number; send None"
    if mine == other or type(a) is type(b):
        return f"{mine} would not come back equal: what writes it and what reads it do not agree"
    if issubclass(type(a), type(b)):
        return (
            f"{mine} would arrive as {other}, without what is of {mine} alone: annotate it with "
            f"{mine}, or with a union of the classes that may come"
        )
    return f"{mine} would arrive as {other}: annotate it with {mine}, or pass what arrives"


def _name(value: Any) -> str:
    return type(value).__name__
