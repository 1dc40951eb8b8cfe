"""The writing half of a connection: frames out, coalesced, with back-pressure; and how it ends.

aiormq writes its own frames to the same transport. Both write whole frames only, so they
interleave at frame boundaries and need no lock.

Changes when the way bytes leave the process changes.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from amqpjobs.broker.rabbitmq.after_fork import dropped_in_children
from amqpjobs.errors import AmqpJobsError, CallbackError

_logger = logging.getLogger(
    "amqpjobs.broker.rabbitmq.splitter"
)  # reading and writing are one thing to users

_FLUSH_AT = 4096
"""Bytes after which a write does not wait for the loop's next turn. Without it a burst of
publishes would be out of back-pressure's sight until the turn is over. That it is so little makes
requests faster with many in flight (tests/benchmarks/README.md): the broker can be at the first
while the last is encoded, it seems, which is worth more than the system calls cost."""


class FrameWriter(asyncio.StreamReaderProtocol):
    """A stream protocol that can also be written to directly, many small frames at a time.

    Attributes:
        error: why this side gave the connection up; None while it did not.
        on_writable: called whenever the transport takes data again after it was full.
        on_lost: called once when the connection is gone, with `error` or the transport's error;
            with None when either side simply closed it.

    A callback that raises is logged, and ends the connection.
    """

    def __init__(self, reader: asyncio.StreamReader, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(reader, loop=loop)
        self.error: AmqpJobsError | None = None
        self.on_writable: list[Callable[[], None]] = []
        self.on_lost: list[Callable[[BaseException | None], None]] = []
        self._reader = reader
        self._event_loop = loop
        self._wire: asyncio.Transport | None = None
        self._full = False
        self._out: list[bytes] = []
        self._out_size = 0
        self._flush_scheduled = False

    @property
    def writable(self) -> bool:
        """Whether the peer keeps up. `write` still takes frames when not, and buffers them."""
        return not self._full and self._open_wire() is not None

    def write(self, frames: bytes) -> None:
        """Send whole frames with what else this turn of the event loop writes, up to 4 KiB at once.

        One system call for many frames: the call costs more than encoding a frame does. On a
        connection that is closed nothing happens: its owner learns of that by `on_lost`.
        """
        self._out.append(frames)
        self._out_size += len(frames)
        if self._out_size >= _FLUSH_AT:
            self.flush()
        elif not self._flush_scheduled:
            self._flush_scheduled = True
            self._event_loop.call_soon(self._scheduled_flush)

    def flush(self) -> None:
        """Hand what was written to the transport now.

        To be called before anything that aiormq writes must stay behind, such as the close of
        the channel that the written acks belong to.
        """
        if not self._out:
            return
        frames = b"".join(self._out)
        self._out.clear()
        self._out_size = 0
        if (wire := self._open_wire()) is not None:
            wire.write(frames)

    def fail(self, error: AmqpJobsError) -> None:
        """Give the connection up: nothing more is read or sent, and aiormq is told why.

        Only the first error counts; what comes after it follows from it.
        """
        if self.error is not None:
            return
        self.error = error
        # aiormq waits on the reader: this wakes it at once, ahead of the transport's own end.
        self._reader.set_exception(error)
        if self._wire is not None:
            self._wire.abort()

    def abort(self) -> None:
        """Leave without the closing handshake; what was not sent yet is dropped."""
        if self._wire is not None:
            self._wire.abort()

    def drop(self) -> None:
        """Leave without the event loop: it is closed, or it is another process's (see `forked`).

        The socket's number stays, since the event loop may know it; it leads to nowhere now.
        """
        wire = self._open_wire()
        place = None if wire is None else wire.get_extra_info("socket")
        if place is None:
            return
        with suppress(OSError):  # closed already
            null = os.open(os.devnull, os.O_RDWR)
            try:
                os.dup2(null, place.fileno(), inheritable=False)
            finally:
                os.close(null)

    def callback_failed(self, problem: Exception) -> None:
        """Report a callback of ours that raised, and give the connection up for it.

        Not at once: what this turn of the event loop still has to tell others is told first.
        """
        _logger.error("callback failed, connection closed", exc_info=problem)
        error = CallbackError(f"a callback failed: {problem!r}")
        error.__cause__ = problem
        self._event_loop.call_soon(self.fail, error)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        super().connection_made(transport)
        # A cast, because uvloop's transports do not inherit from asyncio's.
        self._wire = cast(asyncio.Transport, transport)
        dropped_in_children(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop, once."""
        super().connection_lost(exc)
        self._wire = None
        self.flush()
        self._call_all(self.on_lost, self.error or exc)

    def pause_writing(self) -> None:
        """Called by the transport when its buffer is over the high-water mark."""
        super().pause_writing()
        self._full = True

    def resume_writing(self) -> None:
        """Called by the transport when its buffer is below the low-water mark."""
        super().resume_writing()
        self._full = False
        self._call_all(self.on_writable)

    def _call_all(self, callbacks: list[Callable[..., None]], *args: object) -> None:
        for callback in tuple(callbacks):  # a callback may take itself out
            try:
                callback(*args)
            except Exception as problem:  # noqa: BLE001 - logged, and ends the connection
                self.callback_failed(problem)

    def _scheduled_flush(self) -> None:
        self._flush_scheduled = False
        self.flush()

    def _open_wire(self) -> asyncio.Transport | None:
        wire = self._wire
        return None if wire is None or wire.is_closing() else wire
