"""Exports dead letters to files, and imports them. Changes when their promises do."""

import asyncio
import math
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from decimal import Decimal
from functools import partial
from typing import BinaryIO

from amqpjobs.broker.amqp.fields import short_string
from amqpjobs.broker.amqp.frames import encode_properties
from amqpjobs.broker.rabbitmq.inspection.scan_channel import HeldDelivery
from amqpjobs.client.deadletters.letter import Letter
from amqpjobs.client.deadletters.line_format import Line, imported, line_of, read_line
from amqpjobs.client.deadletters.mover import Mover
from amqpjobs.client.deadletters.report import Moved
from amqpjobs.errors import ConfigurationError, DecodeError, PublishError
from amqpjobs.jobs.message.properties import FieldValue
from amqpjobs.jobs.queue.topology import DELAY_UNROUTABLE

BATCH = 500
"""Letters that one `fsync` makes safe."""

FRAME = 131072 - 20
"""Bytes of properties that RabbitMQ takes, as it is set by default."""


class Writer:
    """Writes dead letters, and optionally removes each from its queue once it is safe.

    Args:
        out: where to; for ``remove`` a file, since nothing else can be made safe.
        remove: whether what was written is taken out.
        moved: counts them.
    """

    def __init__(self, out: BinaryIO, *, remove: bool, moved: Moved) -> None:
        self._out = out
        self._remove = remove
        self._moved = moved
        self._written: list[HeldDelivery] = []

    async def write(self, letter: Letter, delivery: HeldDelivery) -> bool:
        """Write one."""
        self._out.write(line_of(letter))
        self._moved.succeed(letter.place)
        if not self._remove:
            delivery.release()
            return True
        self._written.append(delivery)
        if len(self._written) >= BATCH:
            await self.settle()
        return True

    async def settle(self) -> None:
        """Make safe what was written, and only then let RabbitMQ forget it."""
        self._out.flush()
        if not self._written:
            return
        written, self._written = self._written, []
        await asyncio.shield(asyncio.to_thread(os.fsync, self._out.fileno()))
        for delivery in written:
            delivery.ack()


def read_lines(
    file: Iterable[bytes], places: Collection[str] | None = None
) -> Iterator[tuple[int, Line]]:
    """The lines of a file with their numbers, from 1; empty ones are left out.

    Args:
        file: in bytes.
        places: the queues that a line may be from; None for any, where all go to another one.

    Raises:
        ConfigurationError: a line that is no letter, that AMQP cannot carry, or that is from
            elsewhere; says which.
    """
    for number, text in enumerate(file, 1):
        if not text.strip():
            continue
        try:
            line = read_line(text)
            _check(line, places)
        except (DecodeError, ValueError, OverflowError) as error:
            raise ConfigurationError(f"line {number}: {error}; nothing was sent") from None
        yield number, line


def _check(line: Line, places: Collection[str] | None) -> None:
    """Whether it may go where it says, and AMQP can carry it."""
    if places is not None and line.place not in places:
        raise DecodeError(
            f"{line.place!r} is no queue of dead letters of this app: correct the line, or say "
            "where all are to go, with --to"
        )
    if _has_no_number(line.properties.headers):
        # RabbitMQ has no such number, and closes the connection.
        raise DecodeError("a header is NaN or infinite, which AMQP carries and RabbitMQ does not")
    size = len(encode_properties(imported(line)))
    if size > FRAME:
        raise DecodeError(f"its properties are {size} bytes long, and {FRAME} can be sent")
    short_string(line.place, "the queue's name")
    short_string(line.routing_key, "the routing key")


def _has_no_number(value: FieldValue) -> bool:
    match value:
        case float() | Decimal():
            return not math.isfinite(value)
        case Mapping():
            return any(map(_has_no_number, value.values()))
        case list():
            return any(map(_has_no_number, value))
        case _:
            return False


async def send_lines(
    lines: Iterable[tuple[int, Line]],
    mover: Mover,
    moved: Moved,
    to: str | None,
    on_progress: Callable[[Moved], None] | None = None,
) -> None:
    """Send lines, until RabbitMQ takes no more. ``moved`` has the first that it did not take, also
    when this is cancelled."""

    def settle(number: int, target: str, error: PublishError | None) -> None:
        if error is None:
            moved.succeed(target)
        else:
            moved.fail(error)
            moved.refuse(number)
        if on_progress is not None:
            on_progress(moved)

    try:
        for number, line in lines:
            if mover.broken is not None:
                moved.stopped = True
                moved.refuse(number)
                return
            target = to or line.place
            # The routing key says where a delayed job was to go: only that exchange keeps it.
            lost = target == DELAY_UNROUTABLE
            exchange, key = (DELAY_UNROUTABLE, line.routing_key) if lost else ("", target)
            told = partial(settle, number, target)
            try:
                await mover.send(exchange, key, imported(line), line.body, told)
            except asyncio.CancelledError:
                moved.refuse(number)
                raise
    finally:
        await mover.drain()
