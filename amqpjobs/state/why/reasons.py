"""Why a job does not run: finds the first fact that explains it.

Each source is read independently. A source that cannot be read is named, and the other sources are
used. Changes when there is another reason.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from amqpjobs.errors import AmqpJobsError, UnknownJob
from amqpjobs.jobs.message.ids import check_job_id, is_new_job_id, time_of
from amqpjobs.jobs.message.why import Fact, Why
from amqpjobs.state.memory import memory_of
from amqpjobs.state.needs import uses_store
from amqpjobs.state.status.reader import statuses_of
from amqpjobs.state.store.engine import store_exists
from amqpjobs.state.why.broker import look_at_queue, put_aside, running
from amqpjobs.state.why.words import Said, at, of_outbox, of_queue, of_status, of_wait, span

if TYPE_CHECKING:
    from amqpjobs.client.client import Client
    from amqpjobs.jobs.durable.status import DurableStatus, StepStatus
    from amqpjobs.jobs.message.status import JobStatus
    from amqpjobs.state.why.stored import Stored

T = TypeVar("T")

log = logging.getLogger("amqpjobs.why")

MOST = 3
"""The most steps that the sentence names."""


async def why(client: "Client", job_id: str) -> Why:
    """See `App.why`."""
    check_job_id(job_id)
    return await _Look(client, job_id).why()


class _Look:
    """One examination of a job.

    Args:
        client: of the app.
        job_id: the id of the job.
        nested: whether it is a child of the examined job. Then its own children are not examined.
    """

    def __init__(self, client: "Client", job_id: str, *, nested: bool = False) -> None:
        self._client = client
        self._job_id = job_id
        self._nested = nested
        self._now = client.runtime.clock.time()
        self._facts: list[Fact] = []
        self._unseen: dict[str, None] = {}
        self._stored: Stored | None = None
        self._status: JobStatus | None = None

    async def why(self) -> Why:
        self._stored = await self._seen("the store", self._look_at_store)
        self._status = await self._seen("the statuses", self._look_at_status)
        reason, sentence = await self._said()
        return Why(self._job_id, reason, sentence, tuple(self._facts), tuple(self._unseen))

    async def _said(self) -> Said:
        for look in (self._of_store, self._of_durable, self._of_status, self._of_worker):
            if (said := await look()) is not None:
                return said
        queue = self._queue()
        if queue is not None:
            return await self._of_queue(queue)
        return await self._of_letters() or self._of_nothing()

    async def _seen(self, what: str, look: Callable[[], Awaitable[T]]) -> T | None:
        try:
            return await look()
        except AmqpJobsError as error:
            # The text of the error may have addresses and users, so only the log has it.
            log.info("not looked at", extra={"source": what, "error": str(error)})
            self._unseen[f"{what} cannot be seen: amqpjobs doctor says why"] = None
            return None

    def _note(self, source: str, text: str) -> None:
        self._facts.append(Fact(source, text))

    async def _look_at_store(self) -> "Stored | None":
        if not uses_store(self._client):
            self._unseen["the store: none is set (AMQPJOBS_STORE_URL)"] = None
            return None
        if not store_exists(self._client.runtime.settings):
            return None  # an examination must not create a database
        from amqpjobs.state.why.stored import look

        return await look(memory_of(self._client), self._job_id)

    async def _look_at_status(self) -> "JobStatus | None":
        found = await statuses_of(self._client).get(self._job_id)
        if found is None:
            self._unseen["its status: none is recorded (amqpjobs record)"] = None
        else:
            since = "" if found.updated_at is None else f" since {at(found.updated_at)}"
            self._note("status", f"{found.job} is {found.state}{since}")
        return found

    async def _of_store(self) -> Said | None:
        stored = self._stored
        if stored is None:
            return None
        for row in stored.outbox:
            self._note("outbox", f"a message of {row.job} since {at(row.since)}")
        if (called := stored.called) is not None:
            words = f"the step {called.step!r} of {called.parent_id} has called it: {called.state}"
            self._note("durable", words)
        if stored.outbox:
            return of_outbox(stored.outbox[0], self._now)
        if stored.waits is not None:
            for slot in stored.waits.slots:
                self._note("limit", f"{slot.job_id} holds a slot since {at(slot.since)}")
            return of_wait(stored.waits, self._now)
        return None

    async def _of_durable(self) -> Said | None:
        found = None if self._stored is None else self._stored.durable
        if found is None or (self._status is not None and self._status.epoch > found.epoch):
            return None
        self._note("durable", f"{found.job} is {found.state} since {at(found.changed_at)}")
        error = f": {found.error}" if found.error else ""
        match found.state:
            case "running":
                return None
            case "suspended":
                return "suspended", await self._of_waiting(found)
            case "failed":
                return "failed", f"it has failed and is a dead letter of its queue{error}"
            case "undo_failed":
                return "undo_failed", f"it could not be undone{_undo_error(found)} (amqpjobs undo)"
            case "undoing":
                return "undoing", f"it has failed and is being undone{error}"
            case state:
                return state, f"it is {state} since {at(found.changed_at)}{error}"

    async def _of_waiting(self, found: "DurableStatus") -> str:
        steps = found.waiting
        parts = [await self._of_step(step) for step in steps[:MOST]]
        if len(steps) > MOST:
            parts.append(f"{len(steps) - MOST} more")
        if not parts:
            return "it no longer waits for a step: it is sent again"
        return f"it waits for {'; and for '.join(parts)}"

    async def _of_step(self, step: "StepStatus") -> str:
        since = "" if step.started_at is None else f" since {at(step.started_at)}"
        until = "" if step.due_at is None else f" until {at(step.due_at)}"
        self._note("durable", f"the {step.kind} {step.name!r} waits{since}{until}")
        if step.child_id is None or self._nested:
            return f"{step.waits_for}{until}"
        child = await _Look(self._client, step.child_id, nested=True).why()
        self._facts += [Fact("child", f"{fact.source}: {fact.text}") for fact in child.facts]
        self._unseen |= dict.fromkeys(child.unseen)
        return f"{step.waits_for}{until}: {child.sentence}"

    async def _of_status(self) -> Said | None:
        if self._status is None:
            return None
        if self._status.error:
            self._note("status", f"its last error: {self._status.error}")
        return of_status(self._status, self._now)

    async def _of_worker(self) -> Said | None:
        found = await self._seen("the workers", lambda: running(self._client, self._job_id))
        if found is not None:
            worker, job = found
            words = f"it runs on {worker}, attempt {job.attempt}, for "
            self._note("worker", f"{worker} runs {job.job} of the queue {job.queue}")
            return "running", words + span(job.seconds, 0.0)
        status = self._status
        if status is not None and status.state == "started":
            return "started", (
                f"the worker {status.worker} has begun it and does not reply: RabbitMQ redelivers "
                "it when the connection of the worker is lost"
            )
        return None

    def _queue(self) -> str | None:
        """The app's queue that the job should be in; None if no source names one."""
        if self._status is not None:
            return self._status.queue
        stored = self._stored
        if stored is None:
            return None
        if stored.durable is not None:
            name = stored.durable.job
        elif stored.called is not None and stored.called.state == "waiting":
            name = stored.called.job
        else:
            return None
        try:
            return self._client.runtime.registry.find(name).queue.name
        except UnknownJob:
            self._note("durable", f"this app has no job {name}")
            return None

    async def _of_queue(self, name: str) -> Said:
        seen = await self._seen("the broker", lambda: look_at_queue(self._client, name))
        if seen is None:
            return "queued", f"it should be in the queue {name}"
        state = "paused" if seen.paused else f"{seen.consumers} consumers"
        self._note("queue", f"{name}: {seen.ready} ready, {state}")
        said = of_queue(seen)
        if said[0] != "received":
            return said
        return await self._of_letters() or said

    async def _of_letters(self) -> Said | None:
        found = await self._seen("the dead letters", lambda: put_aside(self._client, self._job_id))
        if found is None:
            return None
        kind, letter = found
        error = f": {letter.failure.message}" if letter.failure else ""
        since = "" if letter.time is None else f" since {at(letter.time)}"
        self._note("dead letter", f"{letter.job or 'a message'} is in {letter.place}{since}")
        if kind == "dead":
            reason = f" ({letter.failure.reason})" if letter.failure else ""
            return "failed", f"it is a dead letter of the queue {letter.queue}{reason}{error}"
        if kind == "parked":
            return "parked", f"it is parked in {letter.place}{error}"
        return "missing", f"it was delayed for the queue {letter.queue}, which does not exist"

    def _of_nothing(self) -> Said:
        if is_new_job_id(self._job_id):
            self._note("id", f"the id was created at {at(time_of(self._job_id))}")
        return "unknown", (
            "the job is unknown: it was never enqueued, it waits in a queue and no status was "
            "recorded, or it ended long ago"
        )


def _undo_error(found: "DurableStatus") -> str:
    for step in found.steps:
        if step.undo_error is not None:
            return f": the undo of {step.name!r} has failed: {step.undo_error}"
    return ""
