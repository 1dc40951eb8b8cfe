"""Finds the function behind a handler's decorators, and awaits what it returns.

Changes when there is another way to wrap a function, or another thing that one may return.
"""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from types import AsyncGeneratorType, FunctionType, GeneratorType
from typing import Any

from amqpjobs.errors import InvalidResult

PLAIN: frozenset[type] = frozenset(
    (type(None), bool, int, float, str, bytes, dict, list, tuple, set)
)
"""Types of results that are what they are: `landed` need not look at them."""

BRIDGES = frozenset(
    (
        "AsyncToSync", "async_to_sync", "run", "run_coroutine_threadsafe", "run_until_complete",
        "syncify",
    )
)  # fmt: skip
"""What a decorator uses that runs an ``async def`` to its end by itself (``asyncio.run``,
asgiref's ``async_to_sync``). It needs a thread: there is an event loop already where an
``async def`` is called."""

DEEPEST = 50
"""Layers around a function; more are a circle."""


def layers_of(function: Any) -> Iterator[Any]:
    """The function and what it wraps, the outermost first: through `functools.wraps`, partials and
    objects with a ``__call__``."""
    for _ in range(DEEPEST):
        yield function
        if isinstance(function, functools.partial):
            function = function.func
        elif (wrapped := getattr(function, "__wrapped__", None)) is not None:
            function = wrapped
        elif callable(function) and not inspect.isroutine(function) and not _is_class(function):
            function = type(function).__call__
        else:
            return


def is_async(function: Callable[..., Any]) -> bool:
    """Whether a call of it is to be awaited: it is an ``async def``, or wraps one."""
    for layer in layers_of(function):
        if inspect.iscoroutinefunction(layer):
            return True
        if _is_bridge(layer):
            return False
    return False


def is_generator(function: Callable[..., Any]) -> bool:
    """Whether a call of it only makes a generator. Unknown for decorators of other packages:
    one may use the generator up. What it has returned is looked at in `landed`."""
    for layer in layers_of(function):
        if inspect.isgeneratorfunction(layer) or inspect.isasyncgenfunction(layer):
            return True
        if hasattr(layer, "__wrapped__") and _code_of(layer) not in _FROM_CONTEXTLIB:
            return False
    return False


def awaitable(function: Callable[..., Any]) -> Callable[..., Any]:
    """An ``async def`` for a handler that wraps one, and is none itself. What goes by the look of
    a function sees one: dependencies are left after it has ended, not before it has begun."""
    if type(function) is FunctionType and inspect.iscoroutinefunction(function):
        return function

    @functools.wraps(function)
    async def handler(*args: Any, **kwargs: Any) -> object:
        return await landed(function(*args, **kwargs))

    return handler


async def landed(result: object) -> object:
    """What a handler has returned, in the end: what can be awaited is awaited.

    Raises:
        InvalidResult: a generator, whose body has not run.
    """
    while inspect.isawaitable(result):
        result = await result
    check_result(result)
    return result


def check_result(result: object) -> None:
    """See that it is none of what only stands for a body that has not run.

    Raises:
        InvalidResult: a generator.
    """
    if isinstance(result, GeneratorType | AsyncGeneratorType) or _is_context_manager(result):
        if isinstance(result, GeneratorType):
            result.close()
        raise InvalidResult(
            f"the handler returned a {type(result).__name__.strip('_')}, so its body has not run: "
            "a job cannot be a generator; take the `yield` out, or return list(...) of it"
        )


def _is_class(function: object) -> bool:
    return isinstance(function, type)


def _is_bridge(layer: Any) -> bool:
    if type(layer).__name__ in BRIDGES:
        return True
    code = _code_of(layer)
    return code is not None and not BRIDGES.isdisjoint((*code.co_names, *code.co_freevars))


def _code_of(layer: Any) -> Any:
    return getattr(layer, "__code__", None)


def _is_context_manager(result: object) -> bool:
    kinds = (contextlib.ContextDecorator, contextlib.AsyncContextDecorator)
    return isinstance(result, kinds) and hasattr(result, "gen")


def _wrapper_codes() -> Iterator[Any]:
    """The code of the wrappers that contextlib makes."""

    @contextlib.contextmanager
    def manager() -> Iterator[None]:
        yield

    @contextlib.asynccontextmanager
    async def other() -> Any:
        yield

    yield from (_code_of(each) for each in (manager, other, manager()(len)))


_FROM_CONTEXTLIB = frozenset(_wrapper_codes())
