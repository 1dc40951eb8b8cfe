"""The turns of a worker: what starts and ends at a time is one transaction; and its slots are
renewed while they are held.

Changes when jobs are put together otherwise, or a store that is away is met in another way.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeAlias

from amqpjobs.errors import AmqpJobsError, StoreUnavailable
from amqpjobs.jobs.run_context import context_of_nobody
from amqpjobs.state.limits.places import Hold, renew
from amqpjobs.state.limits.turn import Busy, Ending, Fate, Starting, Taken, turn

if TYPE_CHECKING:
    from amqpjobs.state.memory import Memory

log = logging.getLogger("amqpjobs.limits")

AT_ONCE = 200
"""Jobs that start, and as many that end, in one transaction."""

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 15.0
"""Seconds after which slots are given up again that could not be; they double."""

LAST = 2.0
"""Seconds for which a run that is cancelled waits to hear whether it has its slots, and a worker
that stops for its slots to be free."""

OFTEN = 3
"""Times that a slot is renewed within its lease."""

SOON = 4
"""Times as often after that has failed."""


Given: TypeAlias = "tuple[Ending, asyncio.Future[None]]"
"""What is to be given up, and who is told of it."""


class Turns:
    """Takes and gives up slots on one event loop.

    Args:
        memory: of the app.

    Attributes:
        client: of the app.
        held: the slots that are held here.
    """

    def __init__(self, memory: "Memory") -> None:
        self._memory = memory
        self.client = memory.client
        self._starting: list[tuple[Starting, asyncio.Future[Fate]]] = []
        self._ending: list[Given] = []
        self._more = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._turning = self._renewing = False
        self._turning_task: asyncio.Task[None] | None = None
        self._pause = FIRST_PAUSE
        self.held: set[Hold] = set()

    def __repr__(self) -> str:
        return f"<Turns: {len(self.held)} slots held>"

    @property
    def idle(self) -> bool:
        """Whether nothing is to be taken or given up."""
        return not self._turning and len(self._tasks) == self._renewing

    async def take(self, starting: Starting) -> Fate:
        """Take what a job needs, together with whatever else waits by then.

        Raises:
            StoreUnavailable: it holds nothing, or what it holds is given up soon.
        """
        future: asyncio.Future[Fate] = asyncio.get_running_loop().create_future()
        self._starting.append((starting, future))
        self._go()
        try:
            await asyncio.wait((future,))
        except asyncio.CancelledError:
            # What is written must be known: a message that waits as a row must not come again.
            await asyncio.wait((future,), timeout=LAST)
            if not future.done():
                future.add_done_callback(lambda late: self._take_back(starting, late))
            elif future.exception() is None and isinstance(future.result(), Busy):
                return future.result()
            else:
                self._take_back(starting, future)
            raise
        return future.result()

    def _take_back(self, starting: Starting, future: "asyncio.Future[Fate]") -> None:
        if not future.cancelled() and future.exception() is None:
            fate = future.result()
            if isinstance(fate, Taken) and fate.holds:
                self.end(Ending(fate.holds, (), starting.holder.job_id))

    def end(self, ending: Ending) -> "asyncio.Future[None]":
        """Give up what a run had.

        Returns:
            Is done when it is given up; not before the store is back, if that is away.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.held.difference_update(ending.holds)
        self._ending.append((ending, future))
        self._go()
        return future

    def beside(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Do something that no job waits for."""
        task = asyncio.get_running_loop().create_task(work, context=context_of_nobody())
        self._tasks.add(task)
        task.add_done_callback(self._over)
        return task

    def _over(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("a bug in amqpjobs", extra={"during": "limits"}, exc_info=error)

    def _go(self) -> None:
        self._more.set()
        if not self._turning:
            self._turning = True
            self._turning_task = self.beside(self._turn())

    async def _turn(self) -> None:
        try:
            while self._starting or self._ending:
                await asyncio.sleep(0)  # what starts or ends in this moment goes along
                self._more.clear()
                starting, self._starting = self._starting[:AT_ONCE], self._starting[AT_ONCE:]
                ending, self._ending = self._ending[:AT_ONCE], self._ending[AT_ONCE:]
                try:
                    await self._once(starting, ending)
                except StoreUnavailable as error:
                    await self._fail(starting, ending, error)
                except Exception as error:  # noqa: BLE001 - a key or an id that it cannot hold
                    await self._one_by_one(starting, ending, error)
        finally:
            self._turning = False

    async def _once(
        self, starting: "list[tuple[Starting, asyncio.Future[Fate]]]", ending: list[Given]
    ) -> None:
        store = await self._memory.store()
        jobs = [each for each, _ in starting]
        ended = [each for each, _ in ending]
        fates, woken = await store.run(turn, self._memory.app, store.now, ended, jobs)
        for _, given in ending:
            given.set_result(None)
        self._pause = FIRST_PAUSE
        for (_, future), fate in zip(starting, fates, strict=True):
            if isinstance(fate, Taken):
                self.held.update(fate.holds)
            future.set_result(fate)
        if woken:
            self._memory.nudge()
        if self.held and not self._renewing:
            self._renewing = True
            self.beside(self._renew())

    async def _fail(
        self,
        starting: "list[tuple[Starting, asyncio.Future[Fate]]]",
        ending: list[Given],
        error: Exception,
    ) -> None:
        """The store is away: jobs are told at once; slots are given up when it is back."""
        for _, future in starting:
            future.set_exception(error)
            future.exception()  # its job may be gone
        if ending:
            self._ending[:0] = ending
            extra = {"runs": len(self._ending), "error": str(error), "pause_s": self._pause}
            log.warning("slots not given up, will be later", extra=extra)
            try:
                async with asyncio.timeout(self._pause):
                    await self._more.wait()
            except TimeoutError:
                self._pause = min(LONGEST_PAUSE, self._pause * 2)

    async def _one_by_one(
        self,
        starting: "list[tuple[Starting, asyncio.Future[Fate]]]",
        ending: list[Given],
        error: Exception,
    ) -> None:
        """One of them cannot be written, and must not be in the way of the others."""
        if len(starting) + len(ending) == 1:
            for _, future in starting:
                future.set_exception(error)
                future.exception()
            if ending:
                keys = {"job_id": ending[0][0].job_id, "error": str(error)}
                log.error("slot not given up", extra=keys)
                ending[0][1].set_result(None)
            return
        for one in starting:
            await self._alone([one], [])
        for end in ending:
            await self._alone([], [end])

    async def _alone(
        self, starting: "list[tuple[Starting, asyncio.Future[Fate]]]", ending: list[Given]
    ) -> None:
        try:
            await self._once(starting, ending)
        except StoreUnavailable as error:
            await self._fail(starting, ending, error)
        except Exception as error:  # noqa: BLE001 - as above
            await self._one_by_one(starting, ending, error)

    async def _renew(self) -> None:
        """Renew all slots that are held, until none is. That it fails ends no run: the message of a
        run that goes on is out, so nobody else takes its slot before the lease is over."""
        try:
            soon = 1
            while self.held:
                lease = min(hold.lease for hold in self.held)
                await asyncio.sleep(lease / OFTEN / soon)
                soon = 1 if await self._renewed() else SOON
        finally:
            self._renewing = False

    async def _renewed(self) -> bool:
        try:
            store = await self._memory.store()
            lost = await store.run(renew, store.now, list(self.held))
        except AmqpJobsError as error:
            log.warning("slots not renewed", extra={"slots": len(self.held), "error": str(error)})
            return False
        for hold in lost:
            if hold in self.held:
                self.held.discard(hold)
                log.warning("slot lost, run goes on", extra={"key": hold.key, "token": hold.token})
        return True

    async def close(self) -> None:
        """Give up what runs have had that have ended, as far as that is possible soon."""
        self.held.clear()
        if self._turning_task is not None:
            await asyncio.wait((self._turning_task,), timeout=LAST)
        if self._ending:
            log.warning("slots not given up", extra={"runs": len(self._ending)})
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
