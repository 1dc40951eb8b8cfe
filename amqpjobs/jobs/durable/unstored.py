"""Durable jobs without the extra `sql`: the methods that they cannot use, and the error.

Changes when a message can carry another kind of step.
"""

import ast
import importlib.util
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.hints import install

STORED = ("call", "map", "sleep", "signal", "step_in")
"""The methods of a context that need a store."""


def has_store() -> bool:
    """Whether this process can have a store."""
    return importlib.util.find_spec("sqlalchemy") is not None


def refusal(what: str) -> ConfigurationError:
    """The error for a method that needs a store.

    Args:
        what: the method, such as ``ctx.call``.
    """
    return ConfigurationError(f"{what} is kept in the store: {fix()}")


def fix() -> str:
    """The fix: how to get a store."""
    return (
        f"{install('amqpjobs[sql]')}, and set AMQPJOBS_STORE_URL (by default it is a SQLite file "
        "of this machine)"
    )


def first_stored(function: Callable[..., Any], context: str) -> str | None:
    """The first method of its context that a handler calls and that needs the store. The source of
    the handler is searched for calls on the parameter itself. Any other call fails at run time.

    Args:
        function: the handler.
        context: the name of its parameter.
    """
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function))))
    except (OSError, TypeError, SyntaxError, ValueError):
        return None  # typed into an interpreter, or without its source
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (found := _stored(node, context)) is not None:
            return found
    return None


def _stored(node: ast.Call, context: str) -> str | None:
    match node.func:
        case ast.Attribute(value=ast.Name(id=name), attr=method) if name == context:
            if method in STORED:
                return f"{context}.{method}"
            if method == "step" and any(keyword.arg == "undo" for keyword in node.keywords):
                return f"undo= of {context}.step"
    return None
