"""What an app says of its jobs after they were enqueued: `App.status`, `App.result`, `App.watch`.

Changes when a program may ask for something else.
"""

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

from amqpjobs.jobs.durations import Seconds
from amqpjobs.jobs.message.cancellation import Cancellation
from amqpjobs.jobs.message.status import JobStatus
from amqpjobs.jobs.message.why import Why
from amqpjobs.state.needs import has_durable, memory_with_store

if TYPE_CHECKING:
    from amqpjobs.client.client import Client
    from amqpjobs.state.status.reader import Statuses


class FollowsJobs:
    """What an `App` has for jobs that were enqueued."""

    @property
    def client(self) -> "Client":
        """The client of the app."""
        raise NotImplementedError

    def _statuses(self) -> "Statuses":
        from amqpjobs.state.status.reader import statuses_of

        return statuses_of(self.client)

    async def status(self, job_id: str) -> JobStatus | None:
        """What is known of a job, as a recorder has written it (`amqpjobs record`, or `amqpjobs
        web`). Needs the extra ``sql``, and no RabbitMQ.

        Returns:
            None for a job that was not recorded (yet), or that was pruned
            (``AMQPJOBS_STATUS_TTL``); and where there is no store yet.

        Raises:
            ConfigurationError: the store cannot be used, or is behind.
            StoreUnavailable: it cannot be reached.

        Example:
            >>> status = await app.status(handle.id)
            >>> if status is not None:
            ...     print(status.state, status.result)
            done report 12: 31 orders
        """
        return await self._statuses().get(job_id)

    async def result(
        self, job_id: str, *, timeout: Seconds | None = None, job: str | None = None
    ) -> Any:
        """Wait until a job has ended, and return what it returned, validated into the job's return
        type. `JobHandle.result` is this with the type known.

        The result is read from the store of statuses, so the job needs ``keep_result``, and a
        recorder must run. It needs no RabbitMQ where the job has ended already.

        Args:
            job_id: the job's id.
            timeout: seconds or a timedelta; None for as long as it takes. The job goes on after it.
            job: the job's name, if it is known: a job that keeps no result is an error at once.

        Raises:
            JobFailed: the job failed for good, expired or was cancelled. Or its own exception, if
                it is among `exceptions`.
            ResultTimeout: it had not ended in time.
            NoResult: its result is not stored, or no longer; says how to fix it.
            InvalidResult: what is stored is not what the job's annotation allows.
            UnknownJob: it is a job of another app.
            ConfigurationError: the store cannot be used, or is behind.
            StoreUnavailable: it cannot be reached.

        Example:
            >>> await app.result(handle.id, timeout=30)
            'report 12: 31 orders'
        """
        return await self._statuses().result(job_id, timeout=timeout, job=job)

    async def cancel(self, job_id: str, *, reason: str = "", undo: bool = False) -> Cancellation:
        """Cancel a job by its id: it does not start any more, and a run of it is ended if the job
        is ``cancellable``.

        All workers of the app that are connected now are told, and remember it for a day. So do
        workers that start later, if a store is configured (``AMQPJOBS_STORE_URL``) for them and
        here; else they do not know of it. A job that waits stays in its queue until a worker takes
        and drops it; it is ``cancelled`` then, and a caller that waits for its reply gets a
        `JobFailed`.

        A durable job ends wherever it waits, and so do the jobs that it waits for. What it has done
        stays, unless `undo` says otherwise.

        Args:
            job_id: the job's id. One that has ended, or that nobody knows, is no error.
            reason: for the status and the log, up to 200 characters.
            undo: of a durable job: run what its steps and calls have as ``undo=``. One that was
                cancelled without it before is undone now.

        Raises:
            ConfigurationError: this user may not ask workers; or the store cannot be used. Workers
                were told all the same. Or `undo` without a store.
            StoreUnavailable: the store cannot be reached. Workers were told all the same.
            PublishError, BrokerUnavailable: workers were not told.

        Example:
            >>> cancellation = await app.cancel(handle.id, reason="ordered twice")
        """
        if undo or has_durable(self.client):
            memory = memory_with_store(self.client, "undo=")
            from amqpjobs.state.durable.cancelling import cancel

            return await cancel(memory, job_id, reason, undo=undo)
        from amqpjobs.state.status.cancelling import cancel_job

        return await cancel_job(self.client, job_id, reason)

    async def why(self, job_id: str) -> Why:
        """Why a job does not run, or has not run: in a sentence, with the facts behind it.

        It looks into the store and at the statuses, asks the workers, looks at the job's queue, and
        last through the dead letters, where the letters are held for a moment. What it cannot see
        is in `Why.unseen`; it works without a store, and while RabbitMQ is away.

        Args:
            job_id: the job's id.

        Raises:
            ConfigurationError: an id that cannot be one.

        Example:
            >>> why = await app.why(handle.id)
            >>> print(why.reason)
            done
        """
        from amqpjobs.state.why.reasons import why

        return await why(self.client, job_id)

    def watch(self, job_id: str) -> AsyncGenerator[JobStatus, None]:
        """The status of a job, and then each change as it happens, until it ends. States may be
        skipped, none comes twice, and each is newer than the one before.

        Without a store it sees only what happens while it watches: then it waits for ever for a
        job that has ended before.

        Raises:
            ConfigurationError: RabbitMQ does not let this user listen to events.

        Example:
            >>> async for status in app.watch(handle.id):
            ...     print(status.state)
            done
        """
        return self._statuses().watch(job_id)
