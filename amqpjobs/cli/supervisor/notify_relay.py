"""What worker processes tell systemd, put together by the parent over them.

systemd listens to the main process of a unit only. So each child has a socket of the parent's, and
the parent speaks for all: ready when every child is, alive while none of them is silent. Changes
when what is told of several processes does.
"""

import logging
import shutil
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from amqpjobs.telemetry.health.heartbeat import INTERVAL, STOPPING, notify, watchdog_interval
from amqpjobs.telemetry.health.heartbeat_file import OK

log = logging.getLogger("amqpjobs.supervisor")

LARGEST = 8192
"""Bytes of one notification."""


class Signs:
    """Listens to the children, and tells systemd.

    Args:
        count: how many children.
    """

    def __init__(self, count: int) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="amqpjobs-"))  # of this user's alone
        self._places = [_Place(self._folder / str(number)) for number in range(count)]
        self._interval = watchdog_interval() or INTERVAL
        self._ready = False
        self._stopping = False
        self._status = ""
        self._alive_at = 0.0

    def __repr__(self) -> str:
        return f"<Signs: {self._words()}>"

    def environment(self, place: int) -> dict[str, str]:
        """The variables by which the child in that place finds its socket. It is a new child."""
        self._places[place].renew()
        return {"NOTIFY_SOCKET": str(self._places[place].path), "WATCHDOG_PID": ""}

    def look(self, alive: Sequence[bool], *, stopping: bool) -> None:
        """Read what the children told, and tell systemd what is new.

        Args:
            alive: which of the places have a process.
            stopping: whether the parent was told to stop.
        """
        for place, lives in zip(self._places, alive, strict=True):
            place.read()
            if not lives:
                place.forget()
        if stopping:
            self.stop()
            return
        if not self._ready and all(place.ready for place in self._places):
            self._ready = True
            notify("READY=1")
        words = self._words()
        if words != self._status:
            self._status = words
            notify(f"STATUS={words}")
        self._keep_alive()

    def _keep_alive(self) -> None:
        """Tell that all is alive, each time that every child has said so of itself. One that is
        starting has not said anything yet, and is not waited for."""
        speaking = [place for place in self._places if place.speaks]
        now = time.monotonic()
        silent = any(not place.alive for place in speaking)
        if silent or (not speaking and now - self._alive_at < self._interval):
            return
        self._alive_at = now
        for place in speaking:
            place.alive = False
        notify("WATCHDOG=1")

    def stop(self) -> None:
        """Tell systemd that all of it stops; once."""
        if not self._stopping:
            self._stopping = True
            notify("STOPPING=1")
            notify(f"STATUS={STOPPING}")

    def close(self) -> None:
        """Take the sockets away."""
        for place in self._places:
            place.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _words(self) -> str:
        """How the children are: ``ok``, or what how many of them say."""
        states = Counter(place.status if place.ready else "starting" for place in self._places)
        if set(states) == {OK}:
            return OK
        return "; ".join(
            f"{count} of {len(self._places)} {state}" for state, count in sorted(states.items())
        )


class _Place:
    """What the process in one place has told."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._channel.setblocking(False)
        self._channel.bind(str(path))
        self.forget()

    def renew(self) -> None:
        """Another process is about to be started here: what the last one said is not its."""
        self.read()
        self.forget()

    def forget(self) -> None:
        self.ready = False
        self.speaks = False
        self.alive = False
        self.status = OK

    def read(self) -> None:
        while True:
            try:
                text = self._channel.recv(LARGEST).decode(errors="replace")
            except BlockingIOError:
                return
            for line in text.splitlines():
                self._take(line)

    def _take(self, line: str) -> None:
        name, _, value = line.partition("=")
        if line == "READY=1":
            self.ready = True
        elif line == "WATCHDOG=1":
            self.speaks = self.alive = True
        elif name == "STATUS":
            self.status = value

    def close(self) -> None:
        self._channel.close()
