"""The one place of a singleton queue in a worker: what takes it. Pure.

Changes when there is another way in which a job goes on after it was settled.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from amqpjobs.broker.rabbitmq.delivery import ConsumerChannel, Delivery


def _no_threads() -> bool:
    return False


class Place:
    """Taken from the start of a job until nothing of it runs here any more.

    That may be later than its settlement: a thread outlives its job, a handler ignores its timeout.

    Args:
        queue: the name of the queue.

    Attributes:
        threads: whether a thread of the queue outlives its job.
        vacated: each is called when the place is free again.
    """

    def __init__(self, queue: str) -> None:
        self.queue = queue
        self.threads: Callable[[], bool] = _no_threads
        self.vacated: list[Callable[[], object]] = []
        self._occupant: Delivery | None = None
        self._lingering: set[object] = set()

    def __repr__(self) -> str:
        return f"<Place of {self.queue}: {'taken' if self.taken else 'free'}>"

    @property
    def taken(self) -> bool:
        """Whether a job of the queue runs here, or goes on."""
        return self._occupant is not None or bool(self._lingering)

    def enter(self, delivery: "Delivery") -> None:
        """A job starts."""
        self._occupant = delivery

    def leave(self) -> None:
        """Its run is over, and so is its thread."""
        self._occupant = None
        self._tell()

    def linger(self, what: object) -> None:
        """Something goes on, whatever becomes of its run, until `end`."""
        self._lingering.add(what)

    def end(self, what: object) -> None:
        """That has ended."""
        self._lingering.discard(what)
        self._tell()

    def withholds(self, channel: "ConsumerChannel", tag: int) -> bool:
        """Whether something else than the job of this delivery runs, or goes on, here: then it must
        not be given back yet, since another worker might start it."""
        if self._lingering or self.threads():
            return True
        own = self._occupant
        return own is not None and not (own.channel is channel and own.tag == tag)

    def _tell(self) -> None:
        if not self.taken:
            for tell in tuple(self.vacated):
                tell()
