"""Copies that fit into a frame: what matters most of headers that no frame, or no table, can hold.

A publisher may fill a frame with headers; a copy says more than its original. Changes when another
header matters more.
"""

from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from amqpjobs.broker.amqp.fields import encode_table
from amqpjobs.broker.amqp.frames import OVERHEAD, encode_properties
from amqpjobs.errors import PublishError
from amqpjobs.jobs.message.headers import (
    HEADER_ATTEMPT,
    HEADER_COPY,
    HEADER_DEADLINE,
    HEADER_DROPPED,
    HEADER_DUE,
    HEADER_EPOCH,
    HEADER_ERROR,
    HEADER_FIRST_TRY,
    HEADER_HISTORY,
    HEADER_PROGRESS,
)
from amqpjobs.jobs.message.properties import FieldValue, Properties
from amqpjobs.jobs.message.trace_context import TRACE_PARENT

FIRST: Final = (
    HEADER_ERROR, HEADER_COPY, HEADER_ATTEMPT, HEADER_DUE, HEADER_DEADLINE, HEADER_EPOCH,
    HEADER_FIRST_TRY, TRACE_PARENT, HEADER_PROGRESS,
)  # fmt: skip
"""What is kept before the headers of others, in this order."""

SMALL = 2048
"""Bytes of each of these. Others may have written them, so that a large one is none of ours."""

NAMES = 20
"""Names of dropped headers that are told, of so many characters each at most."""
NAME = 40

_UNLIMITED = 2**31


async def send_fitting(
    send: Callable[[Properties], Awaitable[None]], properties: Properties, frame_max: int
) -> None:
    """Send a copy; if no frame can carry it, send what fits of it.

    Args:
        send: publishes what it is given, and waits for the confirm.
        frame_max: the largest frame, in bytes; 0 for no limit.

    Raises:
        PublishError: as `send` does.
    """
    try:
        await send(properties)
    except PublishError as error:
        if type(error) is not PublishError:
            raise
        await send(fitting(properties, frame_max))


def fitting(properties: Properties, frame_max: int) -> Properties:
    """The properties with as many headers as a frame holds: ours, then the small ones of others in
    half of what is left, then the errors of earlier runs. What is dropped is named in the header
    ``amqpjobs-dropped``."""
    bare = properties._replace(headers={})
    room = (frame_max or _UNLIMITED) - OVERHEAD - 12 - len(encode_properties(bare)) - 4
    room -= NAMES * (NAME + 5) + len(HEADER_DROPPED) + 6
    headers = dict(properties.headers)
    if _size(HEADER_ERROR, headers.get(HEADER_ERROR)) > min(room, SMALL * 4):
        headers[HEADER_ERROR] = _shortened(headers.get(HEADER_ERROR))
    kept: dict[str, FieldValue] = {}
    for name, value, most in _by_importance(headers, room):
        size = _size(name, value)
        if size <= min(room, most):
            kept[name] = value
            room -= size
    earlier = properties.headers.get(HEADER_DROPPED)
    names = [n for n in earlier if isinstance(n, str)] if isinstance(earlier, list | tuple) else []
    names += [name for name in headers if name not in kept and name != HEADER_DROPPED]
    kept[HEADER_DROPPED] = [_cut(name) for name in dict.fromkeys(names)][:NAMES]
    return properties._replace(headers=kept)


def _by_importance(
    headers: dict[str, FieldValue], room: int
) -> Iterator[tuple[str, FieldValue, int]]:
    """The headers, the most important first, and how many bytes each may have."""
    for name in FIRST:
        if name in headers:
            yield name, headers[name], SMALL * 4 if name == HEADER_ERROR else SMALL
    apart = {*FIRST, HEADER_HISTORY, HEADER_DROPPED}
    others = {name: _size(name, value) for name, value in headers.items() if name not in apart}
    left = room // 2
    for name in sorted(others, key=others.__getitem__):
        yield name, headers[name], left
        left -= others[name]
    if HEADER_HISTORY in headers:
        yield HEADER_HISTORY, headers[HEADER_HISTORY], room


def _size(name: str, value: FieldValue) -> int:
    """Bytes of an entry in the table; more than there is room for if AMQP cannot hold it."""
    try:
        return len(encode_table({name: value})) - 4
    except ValueError:
        return _UNLIMITED * 2


def _shortened(table: FieldValue) -> FieldValue:
    """Why a message was put aside, in fewer words."""
    if not isinstance(table, dict):
        return None
    cut = {name: v[:300] if isinstance(v, str) else v for name, v in table.items()}
    cut.pop("frames", None)
    return cut


def _cut(name: str) -> str:
    """A name within its bytes."""
    return name.encode()[:NAME].decode(errors="ignore")
