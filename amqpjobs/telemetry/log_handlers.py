"""The handlers of the root logger: the application's own stay, and ours is beside them, once.

Changes when the rule does by which ours is added.
"""

import logging
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from amqpjobs.telemetry.log_stream import LogWriter

if TYPE_CHECKING:
    from amqpjobs.settings import Settings

LogHandler = Literal["auto", "always", "never"]
"""``auto``: ours, unless a handler of the application's writes to stdout or stderr. ``always``:
ours in its place. ``never``: logging is the application's alone."""


class LogOptions(NamedTuple):
    """What a worker tells its job processes of logging."""

    level: str = "info"
    form: str = "auto"
    handler: str = "auto"


LOG_DEFAULTS = LogOptions()


def log_options(settings: "Settings") -> LogOptions:
    """Those of these settings."""
    return LogOptions(settings.log_level, settings.log_format, settings.log_handler)


def install(own: logging.Handler, level: int, kind: LogHandler) -> list[logging.Handler]:
    """Put our handler on the root logger, as `LogHandler` says, in place of an earlier one of ours.

    A handler of the application's that writes to stdout or stderr takes the place of ours. Where it
    takes only errors, ours takes what is below. So no line is there twice.

    Args:
        own: ours.
        level: the lowest that ours writes.
        kind: ``auto`` or ``always``.

    Returns:
        The application's handlers that write in place of ours.
    """
    root = logging.getLogger()
    remove_own()
    covering = [handler for handler in root.handlers if is_console(handler)]
    if kind == "always":
        for handler in covering:
            root.removeHandler(handler)  # not closed: another logger may have it, too
        covering = []
    lowest = min((handler.level for handler in covering), default=None)
    if lowest is None or lowest > level:
        if lowest is not None:
            own.addFilter(lambda record: record.levelno < lowest)
        _set_level(root, own, level)
        root.addHandler(own)
    ours = logging.getLogger("amqpjobs")
    if root.level != level and ours.level == logging.NOTSET:
        ours.setLevel(level)
    return covering


def _set_level(root: logging.Logger, own: logging.Handler, level: int) -> None:
    """Ours gets what it writes. An application whose handlers want more goes on to get it."""
    if root.level < level and root.handlers:
        own.setLevel(level)
    else:
        root.setLevel(level)


def remove_own() -> None:
    """Take our handler away from the root logger. What waits in it is written."""
    root = logging.getLogger()
    for handler in [each for each in root.handlers if isinstance(each, LogWriter)]:
        root.removeHandler(handler)
        with suppress(Exception):  # of a stream of the program's own
            handler.flush()


def enable_own_loggers() -> None:
    """Undo what `logging.config.dictConfig` does to loggers that it does not name. Its
    ``disable_existing_loggers`` is true unless it is written, and Django's guide writes a
    configuration that would silence ours. A level silences them as well, on purpose."""
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] == "amqpjobs":
            logging.getLogger(name).disabled = False


def is_console(handler: logging.Handler) -> bool:
    """Whether a handler writes to stdout or stderr, or to a file that one of them is sent to."""
    stream: Any = getattr(handler, "stream", None)
    if stream is None:  # rich.logging.RichHandler
        stream = getattr(getattr(handler, "console", None), "file", None)
    if stream is None:
        return False
    standard = sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__
    if any(stream is each for each in standard):
        return True
    place = _place_of(stream)
    return place is not None and place in {_place_of(each) for each in standard}


def _place_of(stream: Any) -> tuple[int, int] | None:
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError, AttributeError):
        return None
    return found.st_dev, found.st_ino
