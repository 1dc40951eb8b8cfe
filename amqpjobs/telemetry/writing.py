"""Writes log lines to a stream that may be closed, or on a disk that is full.

Changes when what becomes of a line that cannot be written does.
"""

import logging
import sys
from typing import TextIO


class LogWriter(logging.StreamHandler[TextIO]):
    """Writes each line at once. A line that cannot be written is counted, and nothing is raised or
    printed: stderr often goes to the same place. The first line that can be written again is
    followed by one with the count.

    A reader that does not read (a full pipe) holds the caller up until it does.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._failed = 0

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        before = self._failed
        super().emit(record)
        if before and self._failed == before:
            self._failed = 0
            super().emit(_failed(before))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's own name
        """See `logging.Handler`. Other errors are the caller's, such as a wrong format string."""
        if isinstance(sys.exc_info()[1], OSError) or self.stream.closed:
            self._failed += 1
        else:
            super().handleError(record)


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
