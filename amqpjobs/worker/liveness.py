"""Signs of life for whoever watches the process: a heartbeat file, and systemd's notifications.

Both are written by the event loop, so that a blocked loop shows. Changes when a sign is added.
"""

import asyncio
import logging
import os
import socket
import time
from pathlib import Path

log = logging.getLogger("amqpjobs.worker")

INTERVAL = 5.0
"""Seconds between two signs."""

STALE = 30.0
"""Seconds after which a heartbeat file means that its process is stuck or gone."""


class Liveness:
    """Touches the heartbeat file and tells systemd.

    Args:
        file: to touch; None for none.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file

    async def run(self) -> None:
        """Give a sign every few seconds, until cancelled."""
        try:
            while True:
                self._beat()
                await asyncio.sleep(INTERVAL)
        finally:
            self._remove()

    def _remove(self) -> None:
        if self._file is None:
            return
        try:
            self._file.unlink(missing_ok=True)
        except OSError as error:
            # It grows old by itself; a worker that has done all its work must not fail over it.
            log.warning("heartbeat file: %s", error)

    def _beat(self) -> None:
        notify("WATCHDOG=1")
        if self._file is None:
            return
        try:
            self._file.write_text(f"{os.getpid()}\n")
        except OSError as error:
            log.warning("heartbeat file: %s", error)


def age_of(file: Path) -> float | None:
    """Seconds since the file was touched; None if it is not there."""
    try:
        return max(0.0, time.time() - file.stat().st_mtime)
    except FileNotFoundError:
        return None


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
        log.warning("systemd could not be notified: %s", error)
