"""Log lines as the command line writes them: JSON, or readable on a terminal.

The library itself only calls `logging`; it configures nothing. Changes when a line's form does.
"""

import json
import logging
import sys
import time
import traceback
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from amqpjobs.context import current_context
from amqpjobs.jsontext import on_one_line
from amqpjobs.telemetry.propagation import span_keys
from amqpjobs.telemetry.writing import LogWriter

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

LOG_STREAM = "AMQPJOBS_LOG_STREAM"
"""Set to ``stderr`` by commands that print data to stdout, for the processes that they start."""

_COLOURS = {"ERROR": "31", "CRITICAL": "31;1", "WARNING": "33", "DEBUG": "2"}


def configure_logs(
    level: str, form: Literal["auto", "json", "console"], *, stream: TextIO | None = None
) -> None:
    """Write all logs to stdout: a worker's log is its output (https://12factor.net/logs).

    Args:
        level: the lowest level that is written.
        form: ``auto`` is ``console`` on a terminal, else ``json``.
        stream: another place, for commands that print data to stdout.
    """
    # None where the process was started with it closed.
    out: TextIO | None = stream or sys.stdout
    handler: logging.Handler = logging.NullHandler()
    if out is not None:
        console = form == "console" or (form == "auto" and out.isatty())
        handler = LogWriter(out)
        handler.setFormatter(ConsoleFormatter() if console else JsonFormatter())
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    quiet_libraries(level)


def quiet_libraries(level: str) -> None:
    """Keep libraries from logging what we report in our own words."""
    for noisy in ("aiormq", "aio_pika"):
        logging.getLogger(noisy).setLevel(
            logging.DEBUG if level == "debug" else logging.CRITICAL + 1
        )
    # Their starts, stops and steps are ours; what goes wrong in them is not.
    for busy in ("uvicorn", "alembic"):
        logging.getLogger(busy).setLevel(logging.DEBUG if level == "debug" else logging.WARNING)


def keys_of(record: logging.LogRecord) -> dict[str, Any]:
    """What a line carries besides its message: the keys of the job around it, and its own."""
    context = current_context.get()
    keys: dict[str, Any] = context.log_keys() if context is not None else {}
    keys.update((k, v) for k, v in vars(record).items() if k not in _STANDARD)
    # The span that the line was written in may be one inside of the job's. A line about another job
    # names that one's, whatever is around it.
    if "trace_id" not in keys or (context is not None and keys["job_id"] == context.job_id):
        keys.update(span_keys())
    return keys


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ``timestamp``, ``level``, ``logger``, ``event``, and the keys."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        line: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(
                timespec="milliseconds"
            ),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **keys_of(record),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["traceback"] = "".join(traceback.format_exception(record.exc_info[1]))
        return _encoded(line)


class ConsoleFormatter(logging.Formatter):
    """One readable line, in colour where the terminal wants it."""

    def __init__(self) -> None:
        super().__init__()
        import os

        self._colour = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        level = f"{record.levelname.lower():8}"
        if self._colour and record.levelname in _COLOURS:
            level = f"\x1b[{_COLOURS[record.levelname]}m{level}\x1b[0m"
        keys = " ".join(f"{k}={_short(v)}" for k, v in keys_of(record).items())
        line = f"{clock} {level} {_printable(record.getMessage()):<28} {keys}".rstrip()
        if record.exc_info and record.exc_info[1] is not None:
            trace = "".join(traceback.format_exception(record.exc_info[1]))
            line += "\n" + _printable(trace).rstrip()
        return line


def _encoded(line: dict[str, Any]) -> str:
    try:
        text = json.dumps(line, default=str, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError):
        # NaN, circles, keys that are no text: a line in other words is better than none.
        plain = {k: v if isinstance(v, str | int | None) else repr(v) for k, v in line.items()}
        text = json.dumps(plain, ensure_ascii=False)
    # What is left of file names that are not UTF-8 becomes JSON's own escapes: \\udcff.
    return on_one_line(text).encode(errors="backslashreplace").decode()


def _printable(text: str) -> str:
    """What strangers wrote must not move the cursor; lines it may have, as tracebacks do."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)


def _short(value: Any) -> str:
    text = _printable(str(value)).replace("\n", "?").replace("\t", "?")
    return f'"{text}"' if " " in text or not text else text
