"""Middleware as an onion: one chain around publishing, one around processing.

Changes when what a middleware is given changes.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeAlias, TypeVar

from amqpjobs.context import Context
from amqpjobs.message import JobHandle, Message

S = TypeVar("S")
T = TypeVar("T")

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


def onion(
    layers: Sequence[Callable[[Callable[[S], Awaitable[T]], S], Awaitable[T]]],
    core: Callable[[S], Awaitable[T]],
) -> Callable[[S], Awaitable[T]]:
    """Wrap the core in the layers, the first one outermost. Without layers it is the core itself,
    so that middleware costs nothing where there is none."""
    for layer in reversed(layers):
        core = partial(layer, core)
    return core
