"""How the messages of one queue wait: in which order they are taken, and where they come back to.

Changes when a type of queue orders its messages in another way.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from operator import attrgetter
from typing import Protocol

from amqpjobs.broker.embedded.model.messages import Entry

_order = attrgetter("order")


class Store(Protocol):
    """The ready messages of one queue."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Entry]:
        """In the order in which they would be taken."""

    def push(self, entry: Entry, /) -> None:
        """Let a new message wait, behind all of its priority."""

    def take(self) -> Entry:
        """The next message, which is no longer in it. There must be one."""

    def put_back(self, entries: Sequence[Entry]) -> None:
        """Messages that came back, in the order in which they were given out."""

    def expired(self, now: float) -> list[Entry]:
        """What has expired and stands where that is noticed; it is no longer in it."""

    def next_expiry(self) -> float | None:
        """When `expired` may find something next, in seconds since the epoch."""

    def clear(self) -> None:
        """Forget all of them."""


class Line(deque[Entry]):
    """First in, first out; what comes back goes to its old place, as in a classic queue."""

    push = deque.append
    take = deque.popleft

    def put_back(self, entries: Sequence[Entry]) -> None:
        """Each to its old place: nearly always in front of all others."""
        for entry in sorted(entries, key=_order, reverse=True):
            if not self or entry.order < self[0].order:
                self.appendleft(entry)
            else:
                self.insert(bisect_left(self, entry.order, key=_order), entry)

    def expired(self, now: float) -> list[Entry]:
        """Only from the front: what stands behind another message expires when that has gone."""
        found = []
        while self and (expires := self[0].expires) is not None and expires <= now:
            found.append(self.popleft())
        return found

    def next_expiry(self) -> float | None:
        """When the first message expires."""
        return self[0].expires if self else None


class Levels:
    """A line for each priority, the highest first.

    Args:
        looks_behind: whether a message that expires is found though higher ones stand before it.
    """

    def __init__(self, *, looks_behind: bool) -> None:
        self._looks_behind = looks_behind
        self._lines: dict[int, Line] = {}
        self._ranked: list[Line] = []  # the same, highest priority first
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Entry]:
        return chain.from_iterable(self._ranked)

    def push(self, entry: Entry, /) -> None:
        """Behind all of its priority."""
        self._line(entry.priority).append(entry)
        self._count += 1

    def take(self) -> Entry:
        """The oldest of the highest priority."""
        self._count -= 1
        for line in self._ranked:
            if line:
                return line.popleft()
        raise IndexError("take from a store that is empty")

    def put_back(self, entries: Sequence[Entry]) -> None:
        """Each to its old place among those of its priority."""
        for entry in entries:
            self._line(entry.priority).put_back((entry,))
        self._count += len(entries)

    def expired(self, now: float) -> list[Entry]:
        """From the front of every priority, the highest first; or of the one taken from next."""
        found = []
        for line in self._ranked:
            found += line.expired(now)
            if line and not self._looks_behind:
                break
        self._count -= len(found)
        return found

    def next_expiry(self) -> float | None:
        """When the first of those fronts expires."""
        if not self._looks_behind:
            return next((line.next_expiry() for line in self._ranked if line), None)
        return _earliest(line.next_expiry() for line in self._ranked)

    def clear(self) -> None:
        """Forget all of them."""
        for line in self._ranked:
            line.clear()
        self._count = 0

    def _line(self, priority: int) -> Line:
        line = self._lines.get(priority)
        if line is None:
            line = self._lines[priority] = Line()
            self._ranked = [self._lines[known] for known in sorted(self._lines, reverse=True)]
        return line


class Returns:
    """What came back stands ahead of all others, in the order in which it came, as in a quorum
    queue.

    Args:
        messages: how those wait that have not been given out.
        looks_behind: whether a message that expires is found though returned ones stand before it.
    """

    def __init__(self, messages: Line | Levels, *, looks_behind: bool) -> None:
        self._returned = Line()
        self._messages = messages
        self._looks_behind = looks_behind
        self.push = messages.push

    def __len__(self) -> int:
        return len(self._returned) + len(self._messages)

    def __bool__(self) -> bool:
        return bool(self._returned) or bool(self._messages)

    def __iter__(self) -> Iterator[Entry]:
        return chain(self._returned, self._messages)

    def take(self) -> Entry:
        """The first that came back, else the next of the others."""
        return self._returned.popleft() if self._returned else self._messages.take()

    def put_back(self, entries: Sequence[Entry]) -> None:
        """Behind what came back before, ahead of all others."""
        self._returned.extend(entries)

    def expired(self, now: float) -> list[Entry]:
        """From the front of both, or of the one that is taken from next."""
        found = self._returned.expired(now)
        if self._looks_behind or not self._returned:
            found += self._messages.expired(now)
        return found

    def next_expiry(self) -> float | None:
        """When the first message of both expires, or of the one that is taken from next."""
        if not self._looks_behind:
            return (self._returned or self._messages).next_expiry()
        return _earliest((self._returned.next_expiry(), self._messages.next_expiry()))

    def clear(self) -> None:
        """Forget all of them."""
        self._returned.clear()
        self._messages.clear()


def _earliest(times: Iterable[float | None]) -> float | None:
    return min((time for time in times if time is not None), default=None)
