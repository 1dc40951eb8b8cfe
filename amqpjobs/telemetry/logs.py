"""Log lines as the command line writes them: JSON, or readable on a terminal.

The library itself only calls `logging`; it configures nothing. Changes when a line's form does.
"""

import copy
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TextIO

from amqpjobs.jobs.run_context import current_context
from amqpjobs.telemetry.console_line import console_line, pairs
from amqpjobs.telemetry.log_handlers import LogHandler, enable_own_loggers, install, remove_own
from amqpjobs.telemetry.log_stream import LogBuffer, LogWriter
from amqpjobs.telemetry.safe_text import on_one_line, printable
from amqpjobs.telemetry.terminal import has_colour, is_terminal
from amqpjobs.telemetry.tracebacks import short_traceback, whole_traceback
from amqpjobs.telemetry.traces.propagation import span_keys

if TYPE_CHECKING:
    from amqpjobs.settings import Settings

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

_LINE = frozenset({"timestamp", "level", "logger", "event", "traceback", "cut"})
"""Keys of each line."""

_JOB = frozenset({"job", "job_id", "queue", "attempt", "trace_id", "span_id", "trace_flags"})
"""Keys of each line inside of a job."""

LONGEST_LINE = 65_536
"""Bytes. What collects logs cuts or drops longer ones."""

LOG_STREAM = "AMQPJOBS_LOG_STREAM"
"""Set to ``stderr`` by commands that print data to stdout, for the processes that they start."""

LogFormat = Literal["auto", "json", "console", "verbose"]


_configure: Callable[[], None] | None = None
"""The last call of `configure_logs`."""

_handlers: list[logging.Handler] = []
"""The handlers of the root logger after it."""


def configure_logs(
    level: str,
    form: LogFormat,
    *,
    stream: TextIO | None = None,
    buffered: bool = False,
    handler: LogHandler = "auto",
) -> None:
    """Write all logs to stdout: a worker's log is its output (https://12factor.net/logs).

    Handlers that the application has put on the root logger stay. One that writes to stdout or
    stderr writes the lines in place of ours.

    Args:
        level: the lowest level that is written.
        form: ``auto`` is ``console`` on a terminal, else ``json``; ``verbose`` is ``console`` with
            all keys and frames.
        stream: another place, for commands that print data to stdout.
        buffered: have a thread write the lines, for programs that write thousands a second.
        handler: ``always`` for our lines whatever the application writes to stdout and stderr,
            ``never`` to leave logging to it.
    """
    global _configure
    _configure = partial(
        configure_logs, level, form, stream=stream, buffered=buffered, handler=handler
    )
    enable_own_loggers()
    if handler != "never":
        _add_handler(level, form, stream, buffered, handler)
        quiet_libraries(level)
    _handlers[:] = logging.root.handlers


def configure_logs_by(
    settings: "Settings", *, stream: TextIO | None = None, buffered: bool = False
) -> None:
    """`configure_logs` as these settings say."""
    configure_logs(
        settings.log_level, settings.log_format, stream=stream, buffered=buffered,
        handler=settings.log_handler,
    )  # fmt: skip


def _add_handler(
    level: str, form: LogFormat, stream: TextIO | None, buffered: bool, kind: LogHandler
) -> None:
    # None where the process was started with it closed.
    out: TextIO | None = stream or sys.stdout
    own: logging.Handler = logging.NullHandler()
    if out is not None:
        own = LogBuffer(out) if buffered else LogWriter(out)
        own.setFormatter(_formatter(form, out))
    for other in install(own, logging.getLevelNamesMapping()[level.upper()], kind):
        if other.formatter is None or type(other.formatter) is logging.Formatter:
            other.setFormatter(KeysAdded(other.formatter or logging.Formatter()))


def configure_logs_again() -> None:
    """After code of the application that may have configured logging itself, such as a hook. Does
    again what `configure_logs` did, if it was called and the root logger has other handlers now."""
    enable_own_loggers()
    if _configure is not None and logging.root.handlers != _handlers:
        _configure()


@contextmanager
def configured_by_import() -> Iterator[None]:
    """Inside, code of the application is imported that may configure logging itself. It finds the
    root logger without our handler, as if it were imported before all else; then what
    `configure_logs` did is done again, if it was called."""
    if _configure is None:
        yield
        return
    remove_own()
    root = logging.getLogger()
    if not root.handlers:
        root.setLevel(logging.WARNING)  # as Python has it
    try:
        yield
    finally:
        _configure()


def _formatter(form: LogFormat, out: TextIO) -> logging.Formatter:
    if form == "json" or (form == "auto" and not is_terminal(out)):
        return JsonFormatter()
    return ConsoleFormatter(colour=has_colour(out), verbose=form == "verbose")


def quiet_libraries(level: str) -> None:
    """Keep libraries from logging what we report in our own words."""
    for noisy in ("aiormq", "aio_pika"):
        logging.getLogger(noisy).setLevel(
            logging.DEBUG if level == "debug" else logging.CRITICAL + 1
        )
    # Their starts, stops and steps are ours; what goes wrong in them is not.
    for busy in ("uvicorn", "alembic"):
        if logging.getLogger(busy).level == logging.NOTSET:  # else the application has set it
            logging.getLogger(busy).setLevel(logging.DEBUG if level == "debug" else logging.WARNING)


def keys_of(record: logging.LogRecord) -> dict[str, Any]:
    """What a line carries besides its message: the keys of the job around it, and its own."""
    context = current_context.get()
    keys: dict[str, Any] = context.log_keys() if context is not None else {}
    own = {k: v for k, v in vars(record).items() if k not in _STANDARD}
    ours = record.name.partition(".")[0] == "amqpjobs"  # they name other jobs on purpose
    keys.update(_beside(own, _LINE if ours or context is None else _LINE | _JOB))
    # The span that the line was written in may be one inside of the job's. A line about another job
    # names that one's, whatever is around it.
    if "trace_id" not in keys or (context is not None and keys["job_id"] == context.job_id):
        keys.update(span_keys())
    return keys


def _beside(given: dict[str, Any], taken: frozenset[str]) -> dict[str, Any]:
    """Keys of the user's, where those that are ours have ``extra_`` in front."""
    if taken.isdisjoint(given):
        return given
    kept = {k: v for k, v in given.items() if k not in taken}
    for key in taken & given.keys():
        name = f"extra_{key}"
        while name in kept:
            name = f"extra_{name}"
        kept[name] = given[key]
    return kept


_moment = (-1, "")


def timestamp(seconds: float) -> str:
    """A time in UTC by ISO 8601, to the millisecond. The text of a millisecond is made once: dozens
    of lines share it at full speed."""
    global _moment
    number = int(seconds * 1000)
    known, text = _moment
    if known != number:
        second, rest = divmod(number, 1000)
        text = time.strftime(f"%Y-%m-%dT%H:%M:%S.{rest:03d}+00:00", time.gmtime(second))
        _moment = number, text
    return text


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ``timestamp``, ``level``, ``logger``, ``event``, and the keys."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        line: dict[str, Any] = {
            "timestamp": timestamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **keys_of(record),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["traceback"] = whole_traceback(record.exc_info[1])
        text = _encoded(line)
        return text if _fits(text) else _shortened(line, _size(text))


class ConsoleFormatter(logging.Formatter):
    """One readable line, and the traceback of the program's own code.

    Args:
        colour: mark warnings and errors.
        verbose: all keys, as they are in JSON, and all frames.
    """

    def __init__(self, *, colour: bool = False, verbose: bool = False) -> None:
        super().__init__()
        self._colour = colour
        self._verbose = verbose

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        keys = keys_of(record)
        if self._verbose:
            keys["logger"] = record.name
        line = console_line(
            record.getMessage(), record.levelname, record.created, keys,
            run=record.name == "amqpjobs.worker" and "outcome" in keys,
            colour=self._colour, verbose=self._verbose,
        )  # fmt: skip
        if record.exc_info and record.exc_info[1] is not None:
            shown = whole_traceback if self._verbose else short_traceback
            line += "\n" + printable(shown(record.exc_info[1])).rstrip()
        if _fits(line):
            return line
        start = line.encode(errors="replace")[: LONGEST_LINE - 40].decode(errors="ignore")
        return f"{start} cut={_size(line)}"


class KeysAdded(logging.Formatter):
    """A format of the application's, in which lines of ours have their keys behind the message:
    by itself it shows only those that it names, and ``job done`` says nothing without the job.

    Args:
        inner: the application's.
    """

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        if record.name.partition(".")[0] != "amqpjobs":
            return self._inner.format(record)
        shown = copy.copy(record)  # others get the record as it is
        shown.msg, shown.args = " ".join((record.getMessage(), *pairs(keys_of(record)))), None
        return self._inner.format(shown)


# Made once: `json.dumps` makes an encoder for each call that is not as its defaults are.
_encode = json.JSONEncoder(default=str, ensure_ascii=False, allow_nan=False).encode


def _encoded(line: dict[str, Any]) -> str:
    try:
        text = _encode(line)
    except (TypeError, ValueError):
        # NaN, circles, keys that are no text: a line in other words is better than none.
        plain = {k: v if isinstance(v, str | int | None) else repr(v) for k, v in line.items()}
        text = json.dumps(plain, ensure_ascii=False)
    # What is left of file names that are not UTF-8 becomes JSON's own escapes: \\udcff.
    if text.isascii():
        return text
    return on_one_line(text).encode(errors="backslashreplace").decode()


def _fits(text: str) -> bool:
    length = len(text)  # a character has four bytes at most
    return length <= LONGEST_LINE // 4 or (length <= LONGEST_LINE and _size(text) <= LONGEST_LINE)


def _size(text: str) -> int:
    return len(text.encode(errors="replace"))


def _shortened(line: dict[str, Any], size: int) -> str:
    """A line that fits: its longest values are cut, and ``cut`` says how many bytes it had."""
    for most in (32_768, 8192, 2048, 512, 64):
        text = _encoded({k: _first(k, v, most) for k, v in line.items()} | {"cut": size})
        if _fits(text):
            return text
    few = list(line.items())[:50]
    return _encoded({k[:64]: _first(k, v, 64) for k, v in few} | {"cut": size})


def _first(key: str, value: Any, most: int) -> Any:
    if not isinstance(value, str):
        text = _encoded({"": value})[4:-1]
        if len(text) <= most:
            return value
        value = text
    # The last lines of a traceback say what failed.
    return value[-most:] if key == "traceback" else value[:most]
