"""Parameters that are injected, and those that another framework would inject.

Changes when another framework has to be told apart.
"""

import enum
import inspect
import sys
from collections.abc import Iterator
from typing import Annotated, Any, get_args, get_origin

OURS = "fast_depends"

FRAMEWORKS = frozenset(
    (
        "aioinject", "anydi", "blacksheep", "dependency_injector", "di", "dishka", "esmerald",
        "fastapi", "faststream", "injector", "kink", "lagom", "lilya", "litestar", "modern_di",
        "ninja", "picodi", "propan", "punq", "ravyn", "robyn", "sanic_ext", "starlette", "svcs",
        "taskiq", "taskiq_dependencies", "that_depends", "wireup", "xpresso",
    )
)  # fmt: skip
"""Packages whose markers mean something in their own framework, and nothing here."""

MARKERS = frozenset(
    (
        "Dependant", "Depends", "FromComponent", "FromDishka", "Inject", "Injected", "InjectMarker",
        "Provide", "TaskiqDepends",
    )
)  # fmt: skip
"""Names of classes that mean the same wherever they come from."""


def is_dependency(value: object) -> bool:
    """Whether FastDepends fills in a parameter with this default or in this annotation. By module,
    so that apps without injection do not pay for importing it."""
    return _foreign(value) is None and any(
        _package(kind) == OURS for kind in type(value).__mro__[:-1]
    )


def is_injected(parameter: inspect.Parameter, hint: Any) -> bool:
    """Whether FastDepends fills in this parameter."""
    if is_dependency(parameter.default):
        return True
    return get_origin(hint) is Annotated and any(map(is_dependency, get_args(hint)[1:]))


def problem_with(parameter: inspect.Parameter, hint: Any) -> str | None:
    """What is wrong with how a parameter is marked; None for nothing. A parameter that
    no framework fills in would be an argument: the sender of a message would choose it."""
    default = parameter.default
    # By its classes: `isinstance` raises for Any, TypedDict and most protocols.
    if any(kind is hint for kind in type(default).__mro__):
        default = None  # a value like any other, whatever its class is called
    for value in (default, *_metadata(hint)):
        found = _foreign(value)
        if found is not None:
            return (
                f"parameter {parameter.name!r} is marked with {found}, which a worker does not "
                "resolve, so that callers would choose its value: inject it by FastDepends (`from "
                "fast_depends import Depends`), and describe an argument with pydantic's Field"
            )
    hidden = not is_injected(parameter, hint) and any(map(is_dependency, _metadata(hint)))
    if hidden:
        return (
            f"parameter {parameter.name!r}: FastDepends does not see a Depends inside of another "
            "annotation; write Annotated[..., Depends(...)] itself"
        )
    return None


def _metadata(hint: Any, depth: int = 0) -> Iterator[object]:
    """What stands in `Annotated`, also inside of a union, and behind a ``type`` alias."""
    if type(hint).__name__ == "TypeAliasType":
        hint = hint.__value__
    if depth > 10 or isinstance(hint, str):
        return
    given = get_args(hint)
    if get_origin(hint) is Annotated:
        yield from given[1:]
        given = given[:1]
    for inner in given:
        yield from _metadata(inner, depth + 1)


def _foreign(value: object) -> str | None:
    """The name and the package of another framework's marker; None if it is none."""
    kinds = (value if isinstance(value, type) else type(value)).__mro__[:-1]
    packages = [_package(kind) for kind in kinds]
    if isinstance(value, enum.Enum) or ("pydantic", "BaseModel") in zip(
        packages, (kind.__name__ for kind in kinds), strict=True
    ):
        return None  # a plain value, or a model, of whatever package
    for kind, package in zip(kinds, packages, strict=True):
        if package == OURS:
            return None
        if package in FRAMEWORKS or (
            kind.__name__ in MARKERS and package not in sys.stdlib_module_names
        ):
            return f"{kind.__name__.lstrip('_')} of {package}"
    return None


def _package(kind: type) -> str:
    return str(kind.__module__).partition(".")[0]
