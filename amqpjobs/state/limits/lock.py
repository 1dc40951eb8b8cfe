"""`App.lock`: a lock by name, with a token that rises. It is a limit of one that no job holds.

Changes when a lock is taken, renewed or given up otherwise.
"""

import asyncio
import logging
import random
from types import TracebackType
from typing import TYPE_CHECKING, Self
from uuid import uuid4

from sqlalchemy import ColumnElement, Connection, select

from amqpjobs.errors import ConfigurationError, LockTimeout, StoreUnavailable
from amqpjobs.jobs.durations import Seconds, seconds_above_zero, seconds_from_zero
from amqpjobs.jobs.exclusion.limit import LONGEST_LEASE
from amqpjobs.jobs.message.event_codec import WORKER
from amqpjobs.jobs.run_context import context_of_nobody
from amqpjobs.state.limits.keys import LOCK, key_in
from amqpjobs.state.limits.places import Hold, Holder, Places, Want, renew
from amqpjobs.state.store.tables import slots

if TYPE_CHECKING:
    from amqpjobs.state.memory import Memory
    from amqpjobs.state.store.durable import DurableStore

log = logging.getLogger("amqpjobs.limits")

FIRST_LOOK, LONGEST_LOOK = 0.02, 1.0
"""Seconds between two looks at a lock that is taken; they grow by half."""

OFTEN = 3
"""Times that a lock is renewed within its lease."""


class Lock:
    """A lock that is held inside of ``async with``: made by `App.lock`.

    Example:
        >>> async with app.lock("invoice:7") as lock:
        ...     print(lock.token, await lock.still_mine())
        1 True
    """

    def __init__(
        self, memory: "Memory", name: str, lease: Seconds, timeout: Seconds | None
    ) -> None:
        if not isinstance(name, str) or not name:
            raise ConfigurationError(f"the name of a lock is a text, not {name!r}")
        self.name = name
        self._memory = memory
        self._lease = seconds_above_zero("lease", lease, LONGEST_LEASE)
        self._timeout = None if timeout is None else seconds_from_zero("timeout", timeout)
        self._key = key_in(memory.app, LOCK, name)
        self._hold: Hold | None = None
        self._renewing: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Lock {self.name!r}: {'free' if self._hold is None else self._hold.token}>"

    @property
    def token(self) -> int:
        """Its fencing token: greater than that of everybody who had this lock before. What is
        written with it is refused where a greater one was seen:
        ``UPDATE .. SET .., token = :t WHERE token <= :t``.

        Raises:
            ConfigurationError: the lock is not held.
        """
        if self._hold is None:
            raise ConfigurationError(
                f"the lock {self.name!r} is not held: use it inside of `async with app.lock(...)`"
            )
        return self._hold.token

    async def still_mine(self) -> bool:
        """Whether nobody else has it by now: this process may have been frozen for longer than the
        lease.

        Raises:
            StoreUnavailable: that cannot be known.
            ConfigurationError: the lock is not held.
        """
        token = self.token
        store = await self._memory.store()
        return await store.run(_is_held, store.now, self._key, token)

    async def __aenter__(self) -> Self:
        """Take it: wait until nobody has it.

        Raises:
            LockTimeout: not within the timeout.
            StoreUnavailable: the store is away.
        """
        if self._hold is not None:
            raise ConfigurationError(f"the lock {self.name!r} is held already by this object")
        store = await self._memory.store()
        holder = Holder(uuid4().hex, worker=WORKER)
        self._hold = await self._taken(store, holder)
        self._renewing = asyncio.get_running_loop().create_task(
            self._renew(self._hold), context=context_of_nobody()
        )
        return self

    async def _taken(self, store: "DurableStore", holder: Holder) -> Hold:
        clock = asyncio.get_running_loop().time
        end = None if self._timeout is None else clock() + self._timeout
        pause = FIRST_LOOK
        want = Want(self._key, lease=self._lease)
        while True:
            taking = asyncio.ensure_future(
                store.run(_take, self._memory.app, store.now, holder, want)
            )
            try:
                hold = await asyncio.shield(taking)
            except asyncio.CancelledError:
                taking.add_done_callback(self._give_back)
                raise
            if hold is not None:
                return hold
            left = None if end is None else end - clock()
            if left is not None and left <= 0:
                raise LockTimeout(
                    f"the lock {self.name!r} was not free within {self._timeout:g} s",
                    name=self.name,
                )
            wait = pause * (0.5 + random.random() / 2)  # noqa: S311 - not a secret
            await asyncio.sleep(wait if left is None else min(wait, left))
            pause = min(LONGEST_LOOK, pause * 1.5)

    def _give_back(self, taking: "asyncio.Task[Hold | None]") -> None:
        """Its taker was cancelled meanwhile."""
        if not taking.cancelled() and taking.exception() is None and (hold := taking.result()):
            self._late = asyncio.ensure_future(self._free(hold))

    async def _renew(self, hold: Hold) -> None:
        while True:
            await asyncio.sleep(hold.lease / OFTEN)
            try:
                store = await self._memory.store()
                if await store.run(renew, store.now, [hold]):
                    log.warning("lock lost", extra={"lock": self.name, "token": hold.token})
                    return
            except StoreUnavailable as error:
                log.warning("lock not renewed", extra={"lock": self.name, "error": str(error)})

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give it up. A store that is away frees it when its lease is over."""
        renewing, self._renewing = self._renewing, None
        hold, self._hold = self._hold, None
        if renewing is not None:
            renewing.cancel()
            await asyncio.wait([renewing])
        if hold is not None:
            await self._free(hold)

    async def _free(self, hold: Hold) -> None:
        try:
            store = await self._memory.store()
            await store.run(_free, self._memory.app, store.now, hold)
        except StoreUnavailable as failure:
            extra = {"lock": self.name, "token": hold.token, "error": str(failure)}
            log.warning("lock not given up, its lease ends", extra=extra)


def _take(
    connection: Connection, app: str, now: ColumnElement[float], holder: Holder, want: Want
) -> Hold | None:
    places = Places.of(connection, app, now, [want.key])
    taken = places.take(holder, [want])
    places.write(connection, now)
    return None if isinstance(taken, Want) else taken[0]


def _free(connection: Connection, app: str, now: ColumnElement[float], hold: Hold) -> None:
    places = Places.of(connection, app, now, [hold.key])
    places.free(hold)
    places.write(connection, now)


def _is_held(connection: Connection, now: ColumnElement[float], key: str, token: int) -> bool:
    mine = select(slots.c.n).where(
        slots.c.key == key, slots.c.token == token, slots.c.expires_at > now
    )
    return connection.execute(mine).first() is not None
