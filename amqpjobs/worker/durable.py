"""Durable jobs and their parts in a worker: begins a run before the handler, and stores its end
before the delivery is settled.

Changes when an end means something else for a durable job.
"""

import asyncio
import logging
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, NoReturn, TypeAlias

from amqpjobs.errors import AmqpJobsError, InvalidResult, StoreUnavailable
from amqpjobs.jobs.message.copies import copied, of_job, with_progress
from amqpjobs.jobs.message.family import OF_MAPS, Family
from amqpjobs.jobs.message.headers import family_of, replay_of
from amqpjobs.jobs.outcome import (
    Answered,
    Cancelled,
    Done,
    Expired,
    Outcome,
    Rejected,
    Released,
    Retried,
    Skipped,
    Snoozed,
    Superseded,
    Suspended,
    Undoing,
)
from amqpjobs.jobs.refusal import Refused
from amqpjobs.jobs.results import dump_result, load_result

if TYPE_CHECKING:
    from amqpjobs.client.prepared import Prepared
    from amqpjobs.jobs.definition import Definition
    from amqpjobs.jobs.run_context import RunContext
    from amqpjobs.jobs.runtime import Runtime
    from amqpjobs.state.durable.durables import Durables
    from amqpjobs.state.durable.rows import NotBegun, Owner
    from amqpjobs.state.durable.values import Ended, Failed
    from amqpjobs.state.memory import Memory
    from amqpjobs.worker.carried_jobs import CarriedJobs
    from amqpjobs.worker.chunks import Chunk
    from amqpjobs.worker.preparations import Preparations
    from amqpjobs.worker.run import Run

log = logging.getLogger("amqpjobs.durable")

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 15.0
"""Seconds for which jobs wait on their queue while the store is away. The pause doubles."""

TOLD_WITHIN = 30.0
"""Seconds for which the worker tries to store the end of a job. After that the job waits on its
queue and runs again, since its end would be lost."""

ENDED = "its map has ended"
"""Why an item is skipped: no map waits for it."""

LARGEST = 8 * 1024 * 1024
"""The largest result, in bytes, that is stored for the job that waits for it."""

FINAL = (Done, Rejected, Answered, Expired, Cancelled, Skipped, Undoing)
"""Ends of a job."""


class DurableJobs:
    """The durable jobs of a worker, and the parts of others.

    Args:
        memory: of the app.
    """

    def __init__(self, memory: "Memory") -> None:
        self._memory = memory
        self._app = memory.app
        self._time = memory.client.runtime.clock.time
        self._made: Durables | None = None
        self._preparations: Preparations | None = None
        self._pause, self._away = FIRST_PAUSE, 0.0

    def __repr__(self) -> str:
        return f"<DurableJobs of {self._app}>"

    @property
    def idle(self) -> bool:
        """Whether nothing is being stored."""
        return self._made is None or self._made.idle

    def _durables(self) -> "Durables":
        # On first use: most workers have neither.
        if self._made is None:
            from amqpjobs.state.durable.durables import Durables

            self._made = Durables(self._memory)
        return self._made

    async def begin(self, run: "Run", definition: "Definition", context: "RunContext") -> None:
        """Begin the run of a durable job. Its context stores the steps.

        Raises:
            Refused: the job does not run now. The error has its outcome.
        """
        from amqpjobs.state.durable.rows import Beginning, NotBegun

        headers = run.delivery.header.headers if run.delivery.header.has_amqpjobs_headers else {}
        family = family_of(headers)
        beginning = Beginning(
            self._owner(context), context.job, run.delivery.queue,
            context.queue if definition.track else None,
            None if family is None else family.parent, None if family is None else family.step,
            context.deadline, replay_of(headers),
        )  # fmt: skip
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a worker runs jobs in tasks
        try:
            begun = await self._durables().begin(beginning, context, task)
        except AmqpJobsError as error:
            self._wait_for_store(context, error)
        self._pause = FIRST_PAUSE
        if isinstance(begun, NotBegun):
            raise Refused(self._as_it_is(definition, context, begun))
        run.durable = context.durable = begun

    async def chunk_of(
        self, run: "Run", definition: "Definition", context: "RunContext"
    ) -> "Chunk | None":
        """The items in a message of a map; None if the message is a single job.

        Raises:
            Refused: no map waits for the items, or they cannot run now.
        """
        from amqpjobs.worker.chunks import Chunk

        family = family_of(run.delivery.header.headers)
        if family is None or family.part not in OF_MAPS:
            return None
        try:
            wanted = await self._durables().begin_chunk(family, context.job_id)
        except AmqpJobsError as error:
            self._wait_for_store(context, error)
        self._pause = FIRST_PAUSE
        if wanted is None and family.part != "chunk" and context.epoch:
            return None  # a dead letter that was replayed, for its effect
        if wanted is None:
            raise Refused(Cancelled(ENDED))
        if wanted.prepare is not None:
            await self._prepare(family, wanted.prepare, context)
        if family.part != "chunk":
            return None
        return Chunk(self._app, family, wanted.first, wanted.lines, self._time)

    async def _prepare(self, family: "Family", name: str, context: "RunContext") -> None:
        if self._preparations is None:
            from amqpjobs.worker.preparations import Preparations

            self._preparations = Preparations()
        try:
            await self._preparations.prepare((family.parent, family.epoch, family.step), name)
        except Exception as error:  # noqa: BLE001 - the user's: this process cannot run the map
            pause = LONGEST_PAUSE
            keys = {"step": family.step, "prepare": name, "pause_s": pause}
            told = {**context.log_keys(), **keys, "error": f"{type(error).__name__}: {error}"}
            log.warning("prepare of a map failed", extra=told)
            raise Refused(Snoozed(self._time() + pause)) from None

    def _owner(self, context: "RunContext") -> "Owner":
        from amqpjobs.state.durable.rows import Owner

        return Owner(self._app, context.job_id, context.epoch)

    def _wait_for_store(self, context: "RunContext", error: AmqpJobsError) -> NoReturn:
        """The outcome of a job that waits on its queue. No attempt is used."""
        raise Refused(self._later(context, error))

    def _later(self, context: "RunContext", error: AmqpJobsError) -> Snoozed:
        now, pause = time.monotonic(), self._pause
        if now - self._away > pause / 2:  # jobs at the same moment double the pause once
            self._away = now
            self._pause = min(LONGEST_PAUSE, pause * 2)
            keys = {**context.log_keys(), "pause_s": pause, "error": str(error)}
            log.warning("store is away, durable jobs wait", extra=keys)
        return Snoozed(self._time() + pause, rate_limited=pause)

    def _as_it_is(
        self, definition: "Definition", context: "RunContext", known: "NotBegun"
    ) -> Outcome:
        """The outcome of a message whose job has ended, or waits as a row in the store."""
        from amqpjobs.state.durable import values

        match known.state:
            case values.DONE:
                # Its ack was lost, or its end was not stored for its parent.
                result = b"null" if known.result is None else known.result
                try:
                    return Done(load_result(definition, result))
                except InvalidResult:
                    return Done()
            case values.CANCELLED:
                return Cancelled("cancelled" if known.error is None else known.error.message)
            case values.UNDOING if known.earlier:
                return Snoozed(self._time() + FIRST_PAUSE)  # a replay waits until it is undone
            case values.FAILED | values.UNDOING | values.UNDONE | values.UNDO_FAILED if known.error:
                return self._failed(known.error, context.queue)
            case _:
                return Superseded()

    @staticmethod
    def _failed(error: "Failed", queue: str) -> Outcome:
        """The outcome of a job that has failed before: its parent was not told, or its dead letter
        was not written."""
        from amqpjobs.state.durable import values

        if error.reason == values.CANCELLED:
            return Cancelled(error.message)
        failure = error.failure(queue)
        return Undoing(failure) if error.reason == values.UNDONE else Rejected(failure)

    async def end(self, run: "Run", outcome: Outcome) -> Outcome:
        """Store the end of a run of a durable job, or of a part of one.

        Returns:
            The outcome by which the delivery is settled.
        """
        durable = run.durable
        if durable is not None:
            await self._durables().ended(durable)
            outcome = self._of_run(run, outcome)
        if run.context is None or run.definition is None:
            return outcome
        if isinstance(outcome, Retried | Snoozed):
            await self._hear(run, outcome)
        if (
            run.chunk is None
            and not isinstance(outcome, (*FINAL, Suspended))
            and not (durable is not None and not isinstance(outcome, Superseded))
        ):
            return outcome
        end, pause = time.monotonic() + TOLD_WITHIN, 0.1
        while True:
            try:
                return await self._store(run, outcome)
            except StoreUnavailable as error:
                if isinstance(outcome, Released) or time.monotonic() > end:
                    return (
                        outcome
                        if isinstance(outcome, Released)
                        else self._later(run.context, error)
                    )
                await asyncio.sleep(pause)
                pause = min(2.0, pause * 2)

    async def _hear(self, run: "Run", outcome: Retried | Snoozed) -> None:
        """Note the time of the next run, so that the job does not count as lost before."""
        if isinstance(outcome, Snoozed) and run.durable is None and self._pause > FIRST_PAUSE:
            return  # the store is away
        now = self._time()
        due = outcome.due if isinstance(outcome, Snoozed) else now + outcome.pause
        await self._durables().hear(run.durable, self._family(run), max(now, due))

    def _of_run(self, run: "Run", outcome: Outcome) -> Outcome:
        """The outcome after the state of the durable run is taken into account."""
        durable = run.durable
        assert durable is not None  # noqa: S101 - the caller has looked
        if durable.superseded:
            return Superseded()
        if isinstance(outcome, Released | Cancelled):
            return outcome
        if durable.unstored is not None:
            assert run.context is not None  # noqa: S101 - it has run
            return self._later(run.context, durable.unstored)
        if durable.suspending:
            self._warn_if_caught(run, outcome)
            return Suspended(durable.waits)
        if isinstance(outcome, Retried) and durable.is_remembered(outcome.error):
            # The same in every run: what has failed for good is remembered.
            return Rejected(outcome.failure, outcome.error)
        return outcome

    def _warn_if_caught(self, run: "Run", outcome: Outcome) -> None:
        if not isinstance(outcome, Suspended):
            assert run.context is not None  # noqa: S101 - it has run
            keys = {**run.context.log_keys(), "outcome": outcome.word}
            log.warning("handler caught the suspension, its result is dropped", extra=keys)

    async def _store(self, run: "Run", outcome: Outcome) -> Outcome:
        context, definition = run.context, run.definition
        assert context is not None and definition is not None  # noqa: S101, PT018 - looked at
        durables, durable = self._durables(), run.durable
        if durable is not None:
            await durable.flush()
            if durable.superseded:
                return Superseded()
        if run.chunk is not None:
            return await self._store_chunk(run, run.chunk, outcome)
        if isinstance(outcome, Suspended):
            assert durable is not None  # noqa: S101 - only those are
            told = await durables.suspend(durable, _message(run, context))
            return Superseded() if told is None else outcome
        if not isinstance(outcome, FINAL):
            return outcome
        ended = self._ended(definition, context, outcome)
        if definition.durable:
            token = None if durable is None else durable.token
            told = await durables.finish(self._owner(context), token, ended, job=definition.name)
            if told is None and durable is not None:
                return Superseded()
        if (family := self._family(run)) is not None:
            await durables.end_step(family, context.job_id, ended)
        return outcome

    async def _store_chunk(self, run: "Run", chunk: "Chunk", outcome: Outcome) -> Outcome:
        from amqpjobs.state.durable.chunk_rows import Ran

        context, definition = run.context, run.definition
        assert context is not None and definition is not None  # noqa: S101, PT018 - looked at
        rest = None
        if isinstance(outcome, FINAL) and not isinstance(outcome, Done):
            rest = self._ended(definition, context, outcome).error
        ran = Ran(chunk.results, rest, chunk.seconds)
        await self._durables().end_chunk(chunk.family, context.job_id, ran)
        return outcome

    @staticmethod
    def _family(run: "Run") -> "Family | None":
        return family_of(run.delivery.header.headers) if run.parented else None

    def _ended(self, definition: "Definition", context: "RunContext", outcome: Outcome) -> "Ended":
        from amqpjobs.state.durable.values import Ended, Failed

        job, job_id = definition.name, context.job_id
        match outcome:
            case Done(result):
                try:
                    return Ended(dump_result(definition, result, LARGEST))
                except AmqpJobsError as invalid:
                    words = str(invalid)
                    return Ended(error=Failed("InvalidResult", words, job, job_id, context.attempt))
            case Rejected() | Answered() | Undoing():
                return Ended(error=Failed.of_failure(outcome.failure, job, job_id))
            case _:
                words = str(outcome.detail(self._time()).get("reason", outcome.word))
                error = Failed(
                    outcome.word, words, job, job_id, context.attempt, reason=outcome.word
                )
                return Ended(error=error, cancelled=isinstance(outcome, Cancelled))

    async def close(self) -> None:
        """The worker stops."""
        if self._preparations is not None:
            await self._preparations.close()
        if self._made is not None:
            await self._made.close()


DurableWork: TypeAlias = "DurableJobs | CarriedJobs"
"""What a worker has for its durable jobs."""


def durable_jobs_of(
    memory: "Memory | None", runtime: "Runtime", stack: AsyncExitStack
) -> "DurableWork":
    """Make the durable jobs of a worker.

    Args:
        memory: where steps are stored; None without a store.
        stack: exited when the worker has stopped.
    """
    if memory is None:
        names = sorted(job.name for job in runtime.registry.jobs.values() if job.durable)
        from amqpjobs.worker.carried_jobs import CarriedJobs

        return CarriedJobs(names, runtime.clock.time)
    jobs = DurableJobs(memory)
    stack.push_async_callback(jobs.close)
    return jobs


def _message(run: "Run", context: "RunContext") -> "Prepared":
    """The message with which a suspended job is sent again."""
    from amqpjobs.client.prepared import Prepared
    from amqpjobs.jobs.message.headers import for_next_part

    delivery = run.delivery
    copy = with_progress(copied(delivery.readable_properties()), context.told)
    copy = copy._replace(headers=for_next_part(copy.headers))
    properties = of_job(copy, context.job_id, context.job)
    tracked = context.queue if run.definition is not None and run.definition.track else None
    return Prepared(
        context.job_id, context.job, delivery.queue, properties, delivery.body, None, tracked
    )
