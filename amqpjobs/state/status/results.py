"""Waits for the result of a job that was enqueued, and says why there is none.

Changes when there is another reason for that.
"""

import asyncio
import builtins
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Protocol

from amqpjobs.errors import JobFailed, NoResult, ResultTimeout
from amqpjobs.jobs.durations import Seconds, seconds_above_zero
from amqpjobs.jobs.exceptions import by_name
from amqpjobs.jobs.message.event_codec import encode_result
from amqpjobs.jobs.message.events import CANCELLED, DONE, EXPIRED, SKIPPED
from amqpjobs.jobs.message.ids import is_new_job_id, time_of
from amqpjobs.jobs.message.status import JobStatus

if TYPE_CHECKING:
    from amqpjobs.jobs.definition import Definition
    from amqpjobs.jobs.runtime import Runtime

WITHOUT_ERROR: Mapping[str, str] = {
    EXPIRED: "its deadline passed before it was started",
    CANCELLED: "its caller gave up",
    SKIPPED: "another job had its slot",
}
"""What is said of an ending that has no error."""


class Reads(Protocol):
    """What knows the statuses of jobs: `amqpjobs.state.status.reader.Statuses`."""

    async def get(self, job_id: str) -> JobStatus | None:
        """See `App.status`."""
        ...

    def watch(self, job_id: str) -> AsyncGenerator[JobStatus, None]:
        """See `App.watch`."""
        ...

    async def has_store(self) -> bool:
        """Whether statuses are kept anywhere."""
        ...


async def result_of(
    reader: Reads, runtime: "Runtime", job_id: str, timeout: Seconds | None, job: str | None
) -> Any:
    """Wait for a job to end. See `App.result`."""
    seconds = None if timeout is None else seconds_above_zero("timeout", timeout)
    waiting = _Waiting(reader, runtime, job_id)
    if job is not None:
        waiting.check_kept(job)
    try:
        async with asyncio.timeout(seconds) as limit:
            ended = await waiting.until_ended()
    except TimeoutError:
        if not limit.expired() or seconds is None:
            raise
        raise waiting.too_late(seconds) from None
    return waiting.result(ended)


class _Waiting:
    """One wait for one job.

    Attributes:
        last: the newest status that was seen.
    """

    def __init__(self, reader: Reads, runtime: "Runtime", job_id: str) -> None:
        self._reader = reader
        self._runtime = runtime
        self._id = job_id
        self.last: JobStatus | None = None

    async def until_ended(self) -> JobStatus:
        first = self.last = await self._reader.get(self._id)
        if first is None:
            await self._check_may_come()
        elif first.ended:
            return first
        else:
            self.check_kept(first.job)
        async with aclosing(self._reader.watch(self._id)) as updates:
            async for status in updates:
                if self.last is None:
                    self.check_kept(status.job)
                self.last = status
        if self.last is None or not self.last.ended:
            raise self._none("the app was closed while its result was awaited: ask again")
        return self.last

    def check_kept(self, job: str) -> "Definition":
        """The definition of a job that keeps its result.

        Raises:
            NoResult: it does not.
            UnknownJob: it is of another app.
        """
        definition = self._runtime.registry.resolve(job)
        if not definition.keep_result:
            raise self._none(
                f"the job {job!r} does not keep its result: declare it with "
                "@app.job(keep_result=True)"
            )
        if not self._runtime.settings.events:
            raise self._none("the events of jobs are switched off: remove AMQPJOBS_EVENTS=0")
        return definition

    async def _check_may_come(self) -> None:
        """Whether a status may still be recorded."""
        if not await self._reader.has_store():
            raise self._none(
                "there is no store of statuses yet: start a recorder, `amqpjobs record`, with the "
                "same AMQPJOBS_STORE_URL"
            )
        kept = self._runtime.settings.status_ttl
        if is_new_job_id(self._id) and time_of(self._id) + kept < time.time():
            raise self._none(
                f"nothing is known of it any more: statuses are kept for {kept:g} s, see "
                "AMQPJOBS_STATUS_TTL"
            )

    def too_late(self, timeout: float) -> ResultTimeout:
        last = self.last
        words = (
            "nothing is known of it: does a recorder run, `amqpjobs record`?"
            if last is None
            else f"it is {last.state!r}, attempt {last.attempt}"
        )
        return ResultTimeout(
            f"the job {self._id} has not ended after {timeout:g} s: {words}",
            job_id=self._id,
            timeout=timeout,
            state=None if last is None else last.state,
        )

    def result(self, status: JobStatus) -> Any:
        """What a job that has ended returned; or its error is raised."""
        if status.state != DONE:
            raise self._error(status)
        definition = self.check_kept(status.job)
        if not status.has_result:
            raise self._none(
                status.error
                or "its result is not stored any more, or was not heard by a recorder: it is kept "
                "for keep_result=... of the job, else for AMQPJOBS_RESULT_TTL seconds"
            )
        # Imported late, as where replies are read: pydantic is not needed for the status alone.
        from amqpjobs.jobs.results import load_result

        return load_result(definition, encode_result(status.result).encode())

    def _error(self, status: JobStatus) -> Exception:
        from amqpjobs.jobs.message.reply import as_raised

        known = by_name(self._runtime.registry.exceptions)
        return as_raised(_job_failed(status), known)

    def _none(self, words: str) -> NoResult:
        state = None if self.last is None else self.last.state
        return NoResult(f"no result of the job {self._id}: {words}", job_id=self._id, state=state)


def _job_failed(status: JobStatus) -> JobFailed:
    text = status.error or WITHOUT_ERROR.get(status.state, "it failed, and no error is recorded")
    name, _, message = text.partition(": ")
    if not _is_class(name):
        name, message = status.reason or status.state, text
    attempt = status.attempt or None
    return JobFailed(message, error=name, job=status.job, attempt=attempt, job_id=status.id)


def _is_class(name: str) -> bool:
    """Whether the first words of an error name an exception: ``module.Class``, or Python's own."""
    if all(part.isidentifier() or part == "<locals>" for part in name.split(".")) and "." in name:
        return True
    kind = getattr(builtins, name, None)
    return isinstance(kind, type) and issubclass(kind, BaseException)
