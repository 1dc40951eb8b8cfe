"""Classes of exceptions as arguments and by name. Changes when jobs name exceptions otherwise."""

import sys
from collections.abc import Iterable, Mapping
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
    """``module.Class``, without the module for Python's own. A class of the script that runs has
    the name that it has for a worker, which imports the script."""
    module = kind.__module__
    if module in _SCRIPT:
        module = next(iter(_names_of_script()), module)
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def by_name(kinds: Iterable[type[Exception]]) -> Mapping[str, type[Exception]]:
    """Classes by the names that workers may give them."""
    found: dict[str, type[Exception]] = {}
    for kind in kinds:
        names = (kind.__module__, *(_names_of_script() if kind.__module__ in _SCRIPT else ()))
        found.update({f"{name}.{kind.__qualname__}": kind for name in names})
        found[class_name(kind)] = kind
    return found


_SCRIPT = "__main__", "__mp_main__"


def _names_of_script() -> list[str]:
    """What the script that runs may be imported as: `shop`; `app.shop` from the folder above; and
    so on. Nothing for a prompt."""
    from pathlib import Path  # here: most programs that publish start without it

    main = sys.modules.get("__main__")
    if (spec := getattr(main, "__spec__", None)) is not None:
        return [spec.name]
    file = getattr(main, "__file__", None)
    parts = Path(file).absolute().with_suffix("").parts if file else ()
    found: list[str] = []
    for part in reversed(parts):
        if not part.isidentifier():
            break
        found.append(f"{part}.{found[-1]}" if found else part)
    return found
