"""Classes of exceptions as arguments and by name. Changes when jobs name exceptions otherwise."""

from collections.abc import Iterable
from typing import TypeAlias

from amqpjobs.errors import RemoteError

Kinds: TypeAlias = type[BaseException] | tuple[type[BaseException], ...]


def _classes(kinds: Kinds) -> Iterable[object]:
    return kinds if isinstance(kinds, tuple) else (kinds,)


def problem_with(name: str, kinds: Kinds) -> str | None:
    """What is wrong with an argument that takes exception classes; None if it is fine."""
    for kind in _classes(kinds):
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            return f"{name} takes exception classes, not {kind!r}"
    return None


def matches(error: BaseException, kinds: Kinds) -> bool:
    """Whether the error is of one of these classes, in whatever process it was raised."""
    if isinstance(error, kinds):
        return True
    # What a job's process raised is known here by the names of its classes alone.
    return isinstance(error, RemoteError) and any(
        isinstance(kind, type) and class_name(kind) in error.kinds for kind in _classes(kinds)
    )


def class_name(kind: type) -> str:
    """``module.Class``, without the module for Python's own."""
    module = kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"
