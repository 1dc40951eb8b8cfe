"""Middleware as an onion: one chain around publishing, one around processing.

Changes when what a middleware is given changes.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from itertools import islice
from typing import Any, TypeAlias, TypeVar

from amqpjobs.errors import ConfigurationError, PublishError
from amqpjobs.jobs.context import Context
from amqpjobs.jobs.message.handle import JobHandle
from amqpjobs.jobs.message.message import Message

S = TypeVar("S")
T = TypeVar("T")

M = TypeVar("M")

AT_ONCE = 1_000
"""Messages that go through publishing middleware at the same time."""

Processing: TypeAlias = Callable[
    [Callable[[Context], Awaitable[object]], Context], Awaitable[object]
]
"""``async def m(call_next, context)``: around every job that a worker runs. ``await
call_next(context)`` runs the rest and returns the handler's result or raises its error."""

Publishing: TypeAlias = Callable[
    [Callable[[Message[Any]], Awaitable[JobHandle[Any]]], Message[Any]], Awaitable[JobHandle[Any]]
]
"""``async def m(call_next, message)``: around every message that is published. It may pass on
another message (`dataclasses.replace`); what it raises reaches the caller, and nothing is sent."""


def checked(layers: Sequence[M], option: str) -> tuple[M, ...]:
    """Middleware as it was given, as a tuple.

    Args:
        option: where it was given, for the error.

    Raises:
        ConfigurationError: a function by itself, or what cannot be called.
    """
    taken = () if callable(layers) else tuple(layers)
    if callable(layers) or not all(callable(layer) for layer in taken):
        raise ConfigurationError(
            f"{option} is a list of functions `async def m(call_next, context)`, not {layers!r}"
        )
    return taken


def onion(
    layers: Sequence[Callable[[Callable[[S], Awaitable[T]], S], Awaitable[T]]],
    core: Callable[[S], Awaitable[T]],
) -> Callable[[S], Awaitable[T]]:
    """Wrap the core in the layers, the first one outermost. Without layers it is the core itself,
    so that middleware costs nothing where there is none."""
    for layer in reversed(layers):
        core = partial(layer, core)
    return core


async def each_through(
    send: Callable[[Message[Any]], Awaitable[JobHandle[Any]]], messages: Iterable[Message[Any]]
) -> list[JobHandle[Any] | Exception]:
    """Send messages through middleware, some at a time.

    Returns:
        For each message, in order, its handle or the error it met: the publisher's, or whatever
        the middleware raised. An error never keeps the other messages back, some of which may be
        on their way.
    """
    results: list[JobHandle[Any] | Exception] = []
    waiting = iter(messages)
    while some := list(islice(waiting, AT_ONCE)):
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_caught(send, message)) for message in some]
        results += (task.result() for task in tasks)
    return results


async def _caught(
    send: Callable[[Message[Any]], Awaitable[JobHandle[Any]]], message: Message[Any]
) -> JobHandle[Any] | Exception:
    try:
        return await send(message)
    except Exception as error:  # noqa: BLE001 - middleware is the user's
        return error
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise  # with its caller
        # Raised by the middleware itself: as it is, it would look like the caller's cancellation.
        words = "a publishing middleware raised CancelledError"
        return PublishError(words, message_id=message.id)
