"""Writes log lines to a stream that may be closed, not read, or on a disk that is full.

Changes when what becomes of a line that cannot be written does.
"""

import logging
import os
import select
import stat
import threading
import weakref
from contextlib import suppress
from typing import TextIO

PAUSE = 0.05
"""Seconds between two writes of a `LogBuffer` while lines keep coming."""

FULL = 10_000
"""Lines, or 400 times as many characters, that may wait in a `LogBuffer` before it is full."""

FULL_CHARACTERS = FULL * 400

DROPPED_FROM = 10
"""Times as much as that: further lines are dropped and counted."""

FLUSH = 0.5
"""Seconds that `LogBuffer.flush` waits for a reader to read anything: less than a command has from
its budget to its end by force."""

ONE_WRITE = 500
"""Lines that are written at once, to a file."""


class LogWriter(logging.StreamHandler[TextIO]):
    """Writes each line at once. A line that cannot be written is counted, and nothing is raised or
    printed: stderr often goes to the same place. The first line that can be written again is
    followed by one with the count. What the stream's encoding lacks is written as an escape.

    A reader that does not read (a full pipe) holds the caller up until it does.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._failed = 0
        self._writer: int | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`. What is logged by writing a line is dropped: a stream that logs
        what is written to it would never come to an end."""
        if self._writer == threading.get_ident():
            return
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001 - as logging does
            self.handleError(record)
        else:
            self.put(line)

    def put(self, line: str) -> None:
        """Write a line that is formatted already."""
        self._write(line + self.terminator, 1)

    def _write(self, text: str, lines: int) -> None:
        self._writer = threading.get_ident()
        try:
            self._try(text, lines)
        finally:
            self._writer = None

    def _try(self, text: str, lines: int) -> None:
        try:
            try:
                self.stream.write(text)
            except UnicodeEncodeError:
                encoding = self.stream.encoding or "ascii"
                self.stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
            self.stream.flush()
        except Exception:  # noqa: BLE001 - closed, full, or an object of the program's own
            self._failed += lines
            return
        if self._failed:
            failed, self._failed = self._failed, 0
            self._try(self.format(_failed(failed)) + self.terminator, 1)


class LogBuffer(LogWriter):
    """Keeps lines, and has a thread write them, many at once: while lines keep coming there are 20
    writes a second, and an error does not wait for the next one. `flush` and the end of the program
    write what is left. A process that is killed loses the lines of the last 50 ms. A pipe gets
    whole lines in parts that it takes at once (PIPE_BUF, pipe(7)): others write to it, too.

    So a reader that does not read holds nobody up. What it has not read is kept: when that is
    10,000 lines, `is_full` says so, and a worker starts no jobs; when it is ten times as much,
    further lines are dropped and counted.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._at_once = _at_once(stream)
        self._begin()
        _BUFFERS.add(self)

    def _begin(self) -> None:
        self._lines: list[str] = []
        self._characters = 0
        self._dropped = 0
        self._writing = False
        self._full = False
        self._idle = True
        self._starting = threading.Lock()
        self._draining = threading.Lock()
        self._wake = threading.Event()
        self._written = threading.Event()
        self._thread: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        super().emit(record)
        if record.levelno >= logging.ERROR:
            self._wake.set()

    def put(self, line: str) -> None:
        """Have a line written that is formatted already."""
        lines = self._lines
        lines.append(line)
        # Not exact where two threads add at once; it begins anew whenever all is written.
        self._characters += len(line)
        if self._idle:
            self._rouse()
        elif self._writing and self._is_over(DROPPED_FROM):
            with suppress(IndexError):
                lines.pop()
                self._dropped += 1

    def _is_over(self, times: float) -> bool:
        return len(self._lines) > times * FULL or self._characters > times * FULL_CHARACTERS

    def is_full(self) -> bool:
        """Whether so much waits for the reader that no job should be started: until it has read
        half of that. To be asked a few times a second."""
        self._full = self._is_over(0.5 if self._full else 1)
        return self._full

    def flush(self) -> None:
        """Have everything written that was put. Returns when it is, or after half a second in which
        nothing was read."""
        if self._thread is None or not self._thread.is_alive():
            self._drain()
            return
        while self._waits():
            self._written.clear()
            self._wake.set()
            if self._waits() and not self._written.wait(FLUSH):
                return

    def _waits(self) -> bool:
        return bool(self._lines) or self._writing

    def _rouse(self) -> None:
        self._idle = False
        with self._starting:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="amqpjobs log", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # no thread for us now, or the program ends
                    self._drain()
                    self._idle = True
                    return
                self._thread = thread
        self._wake.set()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            while self._lines:
                self._drain()
                self._wake.wait(PAUSE)
                self._wake.clear()
            self._idle = True
            if self._lines:  # put between the last two lines here
                self._idle = False
                self._wake.set()

    def _drain(self) -> None:
        lines = self._lines
        with self._draining:
            while lines:
                taken = self._next()
                del lines[: len(taken)]
                text = self.terminator.join(taken) + self.terminator
                self._failed, self._dropped = self._failed + self._dropped, 0
                self._writing = True
                self._write(text, len(taken))
                self._writing = False
                self._characters = max(0, self._characters - len(text)) if lines else 0
                self._written.set()

    def _next(self) -> list[str]:
        if self._at_once is None:
            return self._lines[:ONE_WRITE]
        room, count = self._at_once, 0
        for line in self._lines:
            room -= len(self.terminator) + (len(line) if line.isascii() else len(_bytes_of(line)))
            if room < 0 and count:
                break
            count += 1
        return self._lines[:count]


def _bytes_of(line: str) -> bytes:
    return line.encode(errors="backslashreplace")


def _at_once(stream: TextIO) -> int | None:
    """How many bytes are written as a whole, whoever else writes; None for a file: as many as one
    likes."""
    try:
        mode = os.fstat(stream.fileno()).st_mode
    except (OSError, ValueError, AttributeError):
        return None
    return None if stat.S_ISREG(mode) else select.PIPE_BUF


_BUFFERS: "weakref.WeakSet[LogBuffer]" = weakref.WeakSet()


def _forget_in_child() -> None:
    """What the parent has yet to write is not the child's, which has no thread either."""
    for buffer in _BUFFERS:
        buffer._begin()


os.register_at_fork(after_in_child=_forget_in_child)


def buffers() -> list[LogBuffer]:
    """Those to which all lines of this program go."""
    return [handler for handler in logging.root.handlers if isinstance(handler, LogBuffer)]


def is_unread() -> bool:
    """Whether nobody reads the log of this program, or too slowly for what it writes."""
    return any(buffer.is_full() for buffer in buffers())


def flush_logs() -> None:
    """Have everything written that was logged, unless nobody reads."""
    for handler in logging.root.handlers:
        with suppress(Exception):  # of handlers that are others'
            handler.flush()


def _failed(lines: int) -> logging.LogRecord:
    return logging.makeLogRecord(
        {
            "name": "amqpjobs.log",
            "levelno": logging.WARNING,
            "levelname": "WARNING",
            "msg": "log could not be written",
            "lines": lines,
        }
    )
