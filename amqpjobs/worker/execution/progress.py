"""Reports the progress of a job in its own process, over the socket that its answer will take.

Changes when it tells something else.
"""

import socket
import threading
import time
from contextlib import suppress

from amqpjobs.jobs.run_context import RunContext
from amqpjobs.worker.execution.protocol import Told, frame_of_told

EVERY = 0.2
"""Seconds between two words; what is told in between waits for the next, or for the end."""


class Speaker:
    """The ``tell`` of one call's context. Safe in any thread of the process.

    Args:
        connection: to the worker.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._spoke = 0.0
        self._unsaid = False
        self._ended = False

    def __call__(self, context: RunContext) -> None:
        """Pass on what the job told last, unless it has just spoken."""
        with self._lock:
            if self._ended:
                return
            now = time.monotonic()
            if self._spoke and now - self._spoke < EVERY:
                self._unsaid = True
                return
            self._spoke = now
            self._say(context)

    def end(self, context: RunContext) -> None:
        """The handler has ended: its last word, if it was not said, and none after it."""
        with self._lock:
            self._ended = True
            if self._unsaid:
                self._say(context)

    def _say(self, context: RunContext) -> None:
        self._unsaid = False
        if context.told is not None:
            # A worker that is gone takes this process along.
            with suppress(OSError):
                self._connection.sendall(frame_of_told(Told(*context.told)))
