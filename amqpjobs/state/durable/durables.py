"""The durable jobs of a process: begins their runs and stores their ends.

Changes when a run needs something else of its process.
"""

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement

from amqpjobs.errors import AmqpJobsError, StoreUnavailable
from amqpjobs.jobs.message.family import OF_MAPS, Family
from amqpjobs.jobs.run_context import RunContext, context_of_nobody
from amqpjobs.state.durable.chunk_rows import Ran, Wanted, begin_chunk, end_chunk, ran_of
from amqpjobs.state.durable.ends import end_step, finish, suspend
from amqpjobs.state.durable.groups import Groups, Shared
from amqpjobs.state.durable.handled import HandledRun
from amqpjobs.state.durable.rows import Beginning, Begun, NotBegun, Owner, begin
from amqpjobs.state.durable.run import DurableRun
from amqpjobs.state.durable.silent import beat, hear
from amqpjobs.state.durable.silent_chunks import hear_chunk
from amqpjobs.state.durable.telling import TellsProgress
from amqpjobs.state.durable.values import UNDO_FAILED, Ended, Told

if TYPE_CHECKING:
    from amqpjobs.client.prepared import Prepared
    from amqpjobs.state.memory import Memory
    from amqpjobs.state.store.durable import DurableStore

log = logging.getLogger("amqpjobs.durable")

LAST = 2.0
"""Seconds for what is still to be written when a worker stops."""

LONGEST_BEAT = 60.0
"""Seconds between two notes in the store that the runs here are alive."""

ORPHANED = "its durable job has ended"
"""Why a called job is cancelled: its durable job has ended."""


class Durables:
    """The durable jobs of a process, on one event loop.

    Args:
        memory: of the app.

    Attributes:
        client: of the app.
        groups: runs what is written.
    """

    def __init__(self, memory: "Memory") -> None:
        self._memory = memory
        self.client = memory.client
        self.groups = Groups(memory)
        self._progress = TellsProgress(memory.client, self.groups)
        self._store: DurableStore | None = None
        self._live: dict[str, DurableRun] = {}
        self._beside: set[asyncio.Task[Any]] = set()
        self._beating: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Durables: {len(self._live)} running>"

    @property
    def idle(self) -> bool:
        """Whether nothing is being written."""
        return self.groups.idle and not self._beside

    @property
    def app(self) -> str:
        """The name of the app."""
        return self._memory.app

    @property
    def now(self) -> ColumnElement[float]:
        """The time of the store, for a statement. Only once that was opened."""
        assert self._store is not None  # noqa: S101 - a run has begun, so it is
        return self._store.now

    async def begin(
        self, beginning: Beginning, context: RunContext, task: "asyncio.Task[Any]"
    ) -> HandledRun | NotBegun:
        """Begin a run.

        Raises:
            StoreUnavailable, ConfigurationError: the store cannot be used.
        """
        store = self._store = await self._memory.store()
        owner = beginning.owner
        begun = await self.groups.run(owner.job_id, begin, beginning, self.now)
        if not isinstance(begun, Begun):
            return begun
        shared = Shared(self._memory, store, self.groups)
        run = HandledRun(shared, context, owner, begun, task)
        self._live[owner.job_id] = run
        if self._beating is None:
            loop = asyncio.get_running_loop()
            self._beating = loop.create_task(self._beat(), context=context_of_nobody())
        return run

    async def _beat(self) -> None:
        """Note that runs are alive, or the housekeeping would take their messages for lost."""
        pause = min(LONGEST_BEAT, self.client.runtime.settings.silent_after / 4)
        while True:
            await asyncio.sleep(pause)
            runs = [(job_id, run.token) for job_id, run in self._live.items()]
            if not runs:
                continue
            try:
                store = await self._memory.store()
                await store.run(beat, self.app, runs, self.now)
            except AmqpJobsError as error:
                log.debug("runs not noted as alive", extra={"error": str(error)})

    async def hear(self, run: DurableRun | None, family: Family | None, due: float) -> None:
        """A job that is not done will not be heard of before it runs again. If that cannot be
        stored, it may be sent once more than needed.

        Args:
            run: of the job, if it is durable.
            family: whose part it is, if any.
            due: when it runs again, in seconds since the epoch.
        """
        try:
            self._store = await self._memory.store()
            if run is not None:
                runs = [(run.owner.job_id, run.token)]
                await self.groups.run(run.owner.job_id, beat, self.app, runs, self.now, due)
            if family is not None and family.part in OF_MAPS:
                await self.groups.run(family.parent, hear_chunk, self.app, family, due, self.now)
            elif family is not None:
                owner = Owner(self.app, family.parent, family.epoch)
                await self.groups.run(family.parent, hear, owner, family.step, due, self.now)
        except AmqpJobsError as error:
            log.debug("retry of a part not noted", extra={"error": str(error)})

    async def ended(self, run: DurableRun) -> None:
        """The handler of a run has ended."""
        if self._live.get(run.owner.job_id) is run:
            del self._live[run.owner.job_id]
        await run.close()

    async def suspend(self, run: DurableRun, message: "Prepared") -> Told | None:
        """Suspend a run. The job is sent again when the steps that it waits for have ended.

        Raises:
            StoreUnavailable: nothing is known to be stored.
        """
        told = await self.groups.run(
            run.owner.job_id, suspend, run.owner, run.token, run.waits, message, self.now,
            tuple(run.maps), at_first=run.at_first,
        )  # fmt: skip
        return self._tell(told)

    async def finish(
        self, owner: Owner, token: int | None, ended: Ended, *, job: str, undo: bool = True
    ) -> Told | None:
        """A durable job has ended.

        Raises:
            StoreUnavailable: nothing is known to be stored.
        """
        self._store = await self._memory.store()
        told = await self.groups.run(
            owner.job_id, finish, owner, token, ended, self.now, job=job, undo=undo
        )
        return self._tell(told)

    async def end_step(self, family: Family, job_id: str, ended: Ended) -> Told:
        """A job has ended that a durable job waits for.

        Raises:
            StoreUnavailable: nothing is known to be stored.
        """
        self._store = await self._memory.store()
        if family.part in OF_MAPS:
            return await self.end_chunk(family, job_id, ran_of(ended))
        told = await self.groups.run(
            family.parent, end_step, self.app, family, job_id, ended, self.now
        )
        self._ended(family, told)
        if told.state == UNDO_FAILED:
            error = "" if ended.error is None else f"{ended.error.error}: {ended.error.message}"
            keys = {"job_id": family.parent, "step": family.step, "undo_id": job_id, "error": error}
            log.error("undo of a durable job failed", extra=keys)
        return told

    async def begin_chunk(self, family: Family, job_id: str) -> Wanted | None:
        """Read a chunk of a map before it is run; None if its map has ended.

        Raises:
            StoreUnavailable, ConfigurationError: the store cannot be used.
        """
        self._store = await self._memory.store()
        return await self.groups.run(family.parent, begin_chunk, self.app, family, job_id, self.now)

    async def end_chunk(self, family: Family, job_id: str, ran: Ran) -> Told:
        """A chunk of a map has ended, or comes again.

        Raises:
            StoreUnavailable: nothing is known to be stored.
        """
        self._store = await self._memory.store()
        told = await self.groups.run(
            family.parent, end_chunk, self.app, family, job_id, ran, self.now
        )
        if self._progress.wanted(family):
            self._do_beside(self._tell_progress(family))
        return self._ended(family, told)

    async def _tell_progress(self, family: Family) -> None:
        owner = Owner(self.app, family.parent, family.epoch)
        with suppress(StoreUnavailable):  # the next one says more
            await self._progress.tell(owner, family.step, self.now)

    def _do_beside(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, context=context_of_nobody())
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    def _ended(self, family: Family, told: Told) -> Told:
        if (live := self._live.get(family.parent)) is not None:
            live.look_soon()
        self._tell(told)
        return told

    def _tell(self, told: Told | None) -> Told | None:
        if told is not None and told.orphans:
            self._cancel(told.orphans, undo=told.undo)
        return told

    def _cancel(self, job_ids: tuple[str, ...], *, undo: bool) -> None:
        """Cancel jobs that no durable job waits for, in the background. If one cannot be cancelled,
        its result is not used."""
        self._do_beside(self._cancel_all(job_ids, undo=undo))

    async def _cancel_all(self, job_ids: tuple[str, ...], *, undo: bool) -> None:
        from amqpjobs.state.durable.cancelling import cancel

        for job_id in job_ids:
            try:
                await cancel(self._memory, job_id, ORPHANED, undo=undo)
            except AmqpJobsError as error:
                extra = {"job_id": job_id, "error": str(error)}
                log.warning("orphaned called job not cancelled", extra=extra)

    async def close(self) -> None:
        """The worker stops."""
        await self.groups.finish(LAST)
        if self._beating is not None:
            self._beside.add(self._beating)
        for task in list(self._beside):
            task.cancel()
        if self._beside:
            await asyncio.wait(self._beside)
