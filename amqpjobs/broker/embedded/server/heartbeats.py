"""Heartbeats of one connection, in both directions, as RabbitMQ keeps them; always in real time.

Source: rabbit_heartbeat.erl. Changes when that does.
"""

from collections.abc import Callable
from typing import TypeAlias

from amqpjobs.broker.embedded.clock import Handle

CallLater: TypeAlias = Callable[[float, Callable[[], None]], Handle]
"""Calls back after so many seconds, as the event loop's `call_later` does."""


class Heartbeats:
    """Sends a heartbeat when nothing else was sent, and finds out when the client is silent.

    Nothing happens before `start`, nor after it with an interval of zero.

    Attributes:
        heard: set to True by whoever reads, whenever there is something.

    Args:
        call_later: sets a timer.
        spoke: says whether anything was sent since it was asked last.
        beat: sends a heartbeat.
        silent: called when nothing was heard for two whole intervals; the client counts as dead.
    """

    def __init__(
        self,
        call_later: CallLater,
        spoke: Callable[[], bool],
        beat: Callable[[], None],
        silent: Callable[[], None],
    ) -> None:
        self.heard = False
        self._call_later = call_later
        self._spoke = spoke
        self._beat = beat
        self._silent = silent
        self._interval = 0.0
        self._missed = 0
        self._paused = False
        self._timers: dict[str, Handle] = {}

    def start(self, interval: float) -> None:
        """Begin, with the interval that was agreed on, in seconds."""
        self._interval = interval
        if interval:
            self._set("send", interval / 2, self._send)
            self._set("listen", interval, self._listen)

    def stop(self) -> None:
        """Neither send nor listen any more."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def pause(self, paused: bool) -> None:
        """While the broker itself does not read, silence says nothing about the client."""
        self._paused = paused
        self._missed = 0

    def _set(self, name: str, delay: float, callback: Callable[[], None]) -> None:
        self._timers[name] = self._call_later(delay, callback)

    def _send(self) -> None:
        if not self._spoke():
            self._beat()
        self._set("send", self._interval / 2, self._send)

    def _listen(self) -> None:
        if self.heard or self._paused:
            self.heard = False
            self._missed = 0
        else:
            self._missed += 1
        if self._missed >= 2:
            self.stop()
            self._silent()
        else:
            self._set("listen", self._interval, self._listen)
