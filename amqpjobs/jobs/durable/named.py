"""Functions by name: what one process tells another to call. Changes when another kind of function
can be found again."""

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from amqpjobs.errors import ConfigurationError


def name_of(what: str, function: Callable[..., Any]) -> str:
    """The name of a function, by which other processes find it: ``module:function``.

    Args:
        what: what it is given for, for the error.

    Raises:
        ConfigurationError: they could not.
    """
    module = getattr(function, "__module__", None)
    qualified = getattr(function, "__qualname__", None)
    if not callable(function) or not module or not qualified:
        raise ConfigurationError(f"{what} is a function of a module, not {function!r}")
    if "<" in qualified or module == "__main__":
        raise ConfigurationError(
            f"{what} is a function at the top of a module that workers import, and found there by "
            f"its name: {module}.{qualified} is not"
        )
    name = f"{module}:{qualified}"
    if _found(name) is not function:
        raise ConfigurationError(
            f"{what} is not found by its name {name}: give the function that is there"
        )
    return name


def _found(name: str) -> object:
    module, _, qualified = name.partition(":")
    found: Any = sys.modules.get(module) or import_module(module)
    for part in qualified.split("."):
        found = getattr(found, part, None)
    return found


def function_of(name: str) -> Callable[..., Any]:
    """The function of a name.

    Raises:
        ConfigurationError: there is none in this process.
    """
    try:
        found = _found(name)
    except ImportError as error:
        raise ConfigurationError(f"no function {name} here: {error}") from error
    if not callable(found):
        raise ConfigurationError(f"no function {name} here: this worker has other code")
    return found
