"""Locks for synchronous code. Changes when a lock can do something else there."""

from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self


class HoldsLock(Protocol):
    """An asynchronous lock: see `amqpjobs.state.limits.lock.Lock`."""

    @property
    def token(self) -> int:
        """See there."""
        ...

    async def still_mine(self) -> bool:
        """See there."""
        ...

    async def __aenter__(self) -> Self:
        """See there."""
        ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """See there."""
        ...


class BlockingLock:
    """A lock that is held inside of ``with``: made by `BlockingApp.lock`.

    Args:
        lock: that is held.
        call: runs a coroutine function on the event loop of the client, and waits for it.
    """

    def __init__(self, lock: HoldsLock, call: Callable[..., Any]) -> None:
        self._lock = lock
        self._call = call

    def __repr__(self) -> str:
        return f"<Blocking {self._lock!r}>"

    @property
    def token(self) -> int:
        """Its fencing token: greater than that of everybody who had this lock before."""
        return self._lock.token

    def still_mine(self) -> bool:
        """Whether nobody else has it by now."""
        mine: bool = self._call(self._lock.still_mine)
        return mine

    def __enter__(self) -> Self:
        self._call(self._lock.__aenter__)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._call(self._lock.__aexit__, kind, error, traceback)
