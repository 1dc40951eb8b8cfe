"""Copies that fit into a frame: what matters most of headers that no frame, or no table, can hold.

A publisher may fill a frame with headers; a copy says more than its original. Changes when another
header matters more.
"""

from collections.abc import Awaitable, Callable, Iterator

from amqpjobs.broker.amqp.fields import encode_table
from amqpjobs.broker.amqp.frames import OVERHEAD, encode_properties
from amqpjobs.errors import PublishError
from amqpjobs.jobs.message.header_names import KEPT_FIRST, KEPT_LAST
from amqpjobs.jobs.message.headers import dropped_header, dropped_of, shorten_failure
from amqpjobs.jobs.message.properties import FieldValue, Properties

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
    room -= NAMES * (NAME + 5) + _size(dropped_header(()))
    headers = dict(properties.headers)
    shorten_failure(headers, lambda header, most: _size(header) <= min(room, most))
    kept: dict[str, FieldValue] = {}
    for name, value, most in _by_importance(headers, room):
        size = _size({name: value})
        if size <= min(room, most):
            kept[name] = value
            room -= size
    names = dropped_of(headers)
    names += [name for name in headers if name not in kept and name not in dropped_header(())]
    kept |= dropped_header([_cut(name) for name in dict.fromkeys(names)][:NAMES])
    return properties._replace(headers=kept)


def _by_importance(
    headers: dict[str, FieldValue], room: int
) -> Iterator[tuple[str, FieldValue, int]]:
    """The headers, the most important first, and how many bytes each may have."""
    for name, most in KEPT_FIRST.items():
        if name in headers:
            yield name, headers[name], most
    apart = {*KEPT_FIRST, KEPT_LAST, *dropped_header(())}
    others = {name: _size({name: value}) for name, value in headers.items() if name not in apart}
    left = room // 2
    for name in sorted(others, key=others.__getitem__):
        yield name, headers[name], left
        left -= others[name]
    if KEPT_LAST in headers:
        yield KEPT_LAST, headers[KEPT_LAST], room


def _size(entry: dict[str, FieldValue]) -> int:
    """Bytes of an entry in the table; more than there is room for if AMQP cannot hold it."""
    try:
        return len(encode_table(entry)) - 4
    except ValueError:
        return _UNLIMITED * 2


def _cut(name: str) -> str:
    """A name within its bytes."""
    return name.encode()[:NAME].decode(errors="ignore")
