"""Names of functions, so that one process can name a function for another process to call.

Changes when another kind of function can be named.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from amqpjobs.errors import ConfigurationError


def name_of(what: str, function: Callable[..., Any]) -> str:
    """The name ``module:function`` by which other processes find a function.

    Args:
        what: the parameter that the function was passed as, for the error.

    Raises:
        ConfigurationError: other processes cannot find the function.
    """
    module = getattr(function, "__module__", None)
    qualified = getattr(function, "__qualname__", None)
    if not callable(function) or not module or not qualified:
        raise ConfigurationError(f"{what} must be a function of a module, not {function!r}")
    if "<" in qualified or module == "__main__":
        raise ConfigurationError(
            f"{what} must be a function at the top of a module that workers import: "
            f"{module}.{qualified} is not"
        )
    name = f"{module}:{qualified}"
    if _found(name) is not function:
        raise ConfigurationError(
            f"{what}: the name {name} has another function: pass that function"
        )
    return name


def _found(name: str) -> object:
    module, _, qualified = name.partition(":")
    found: Any = sys.modules.get(module) or import_module(module)
    for part in qualified.split("."):
        found = getattr(found, part, None)
    return found


def function_of(name: str) -> Callable[..., Any]:
    """Find a function by its name.

    Raises:
        ConfigurationError: this process has no such function.
    """
    try:
        found = _found(name)
    except ImportError as error:
        raise ConfigurationError(f"no function {name} here: {error}") from error
    if not callable(found):
        raise ConfigurationError(f"no function {name} here: this worker runs other code")
    return found
