"""Writes a heartbeat file, and notifies systemd.

Both are written by the event loop, so that a blocked loop shows. Changes when a sign is added.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path

from amqpjobs.telemetry.health.heartbeat_file import OK, is_ok

log = logging.getLogger("amqpjobs.worker")

INTERVAL = 5.0
"""Seconds between two signs."""

LOOK = 1.0
"""Seconds between two looks at the state: a new one is told at once."""

NOT_HEALTHY = "not healthy"
"""What the log says of another state; `amqpjobs chaos` reads it."""

STARTING, STOPPING = "starting", "stopping"


class Liveness:
    """Touches the heartbeat file, which says how the worker is, and tells systemd.

    Args:
        file: to touch; None for none.
        state: how the worker is: ``ok``; ``ok, but housekeeping has to wait: why``, which is as
            healthy; ``starting``; ``stopping``; ``reconnecting``;
            ``not consuming: queue, queue``; ``not starting jobs: queue`` while deliveries are held
            and none is started; ``blocked: reason`` while RabbitMQ takes no messages;
            ``no room: reason``; ``log not read``; ``threads outlive their jobs in 1 of 8 slots:
            job, id``.
    """

    def __init__(self, file: Path | None, state: Callable[[], str] = lambda: OK) -> None:
        self._file = file
        self._state = state
        self._told = STARTING
        self._interval = min(INTERVAL, watchdog_interval() or INTERVAL)

    async def run(self) -> None:
        """Give a sign every few seconds, and when the state changes, until cancelled."""
        try:
            while True:
                self._beat()
                await self._pause()
        finally:
            self._remove()

    async def _pause(self) -> None:
        clock = asyncio.get_running_loop().time
        end = clock() + self._interval
        while True:
            await asyncio.sleep(min(LOOK, self._interval))
            if clock() >= end or self._state() != self._told:
                return

    def _remove(self) -> None:
        if self._file is None:
            return
        try:
            self._file.unlink(missing_ok=True)
        except OSError as error:
            # It grows old by itself; a worker that has done all its work must not fail over it.
            log.warning("heartbeat file not removed", extra={"error": str(error)})

    def _beat(self) -> None:
        notify("WATCHDOG=1")
        self._tell()
        if self._file is None:
            return
        try:
            self._file.write_text(f"{os.getpid()} {self._told}\n")
        except OSError as error:
            log.warning("heartbeat file not written", extra={"error": str(error)})

    def _tell(self) -> None:
        """Put a new state into the log."""
        before, self._told = self._told, self._state()
        if self._told == before:
            return
        notify(f"STATUS={self._told}")
        if is_ok(self._told):
            if before != STARTING and not is_ok(before):
                log.info("healthy again", extra={"was": before})
        elif self._told not in (STARTING, STOPPING):
            log.warning(NOT_HEALTHY, extra={"state": self._told})


def watchdog_interval() -> float | None:
    """Seconds between two signs that `sd_watchdog_enabled(3)` asks this process for; None if it
    asks for none. Three signs in the time that systemd waits, so that one may be late."""
    wanted = os.environ.get("WATCHDOG_USEC", "")
    process = os.environ.get("WATCHDOG_PID") or str(os.getpid())
    if not wanted.isdigit() or int(wanted) == 0 or process != str(os.getpid()):
        return None
    return int(wanted) / 3e6


def notify(state: str) -> None:
    """Tell systemd (`sd_notify(3)`), if it asked for it with ``NOTIFY_SOCKET``."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]  # an abstract socket
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto(state.encode(), address)
    except OSError as error:
        log.warning("systemd could not be notified", extra={"error": str(error)})
