"""Python's logging as a program finds it that has just begun, inside of a test."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from amqpjobs.telemetry import logs

CHANGED = ("", "amqpjobs", "aiormq", "aio_pika", "uvicorn", "alembic")
"""Loggers whose levels are changed by `configure_logs`."""


@contextmanager
def logging_of_its_own() -> Iterator[logging.Logger]:
    """The root logger with no handler and Python's own level; at the end all is as it was."""
    root = logging.getLogger()
    handlers, levels = list(root.handlers), [logging.getLogger(name).level for name in CHANGED]
    configured, logs._configure = logs._configure, None
    known = [each for each in root.manager.loggerDict.values() if isinstance(each, logging.Logger)]
    disabled = {logger for logger in known if logger.disabled}
    root.handlers[:] = []
    for name in CHANGED:
        logging.getLogger(name).setLevel(logging.WARNING if not name else logging.NOTSET)
    try:
        yield root
    finally:
        for logger in root.manager.loggerDict.values():
            if isinstance(logger, logging.Logger):
                logger.disabled = logger in disabled
        logs._configure = configured
        root.handlers[:] = handlers
        for name, level in zip(CHANGED, levels, strict=True):
            logging.getLogger(name).setLevel(level)
