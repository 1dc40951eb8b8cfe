"""The methods of `App` that operate durable jobs: `signal`, `undo`, `durable_status`.

Changes when a program may do something else with a durable job.
"""

from typing import TYPE_CHECKING, Any

from amqpjobs.jobs.durable.status import DurableStatus
from amqpjobs.state.needs import has_durable, memory_with_store
from amqpjobs.state.store.engine import store_exists

if TYPE_CHECKING:
    from amqpjobs.client.client import Client


class Operates:
    """The part of `App` that operates durable jobs."""

    @property
    def client(self) -> "Client":
        """The client of the app."""
        raise NotImplementedError

    async def signal(self, job_id: str, name: str, value: Any = None) -> bool:
        """Send a signal to a durable job, which receives it by ``ctx.signal(name, type)``. An early
        signal is kept, also for a job that has not begun.

        When this method returns, the signal is stored. The job validates the value when it receives
        the signal.

        Args:
            job_id: the job's id.
            name: of the signal; a job receives one signal of each name.
            value: a value that can become JSON, such as a pydantic model, a dataclass or plain
                values; at most 256 KB.

        Returns:
            False if the job has ended, or has had a signal of this name. The signal is not stored.

        Raises:
            ConfigurationError: the id or the name is invalid, or the store cannot be used.
            InvalidArguments: the value cannot become JSON, or is too large.
            StoreUnavailable: the store cannot be reached. The signal may have been stored.

        Example:
            >>> await app.signal(handle.id, "approval", {"by": "ada"})
            True
        """
        memory = memory_with_store(self.client, "a signal")
        from amqpjobs.state.durable.signalling import body_of, send

        return await send(memory, job_id, name, body_of(name, value))

    async def undo(self, job_id: str) -> str | None:
        """Undo a durable job that has ended. The ``undo=`` jobs of its steps and calls run, the
        last step first. If its undo failed before (``undo_failed``), the failed undo jobs are sent
        again under new ids, and the undo continues.

        Returns:
            The state of the job now. ``undoing``: the undo jobs are not done yet. ``undone``: they
            are. ``running`` and ``suspended`` jobs must be cancelled instead. A job in another
            state has nothing to undo. None if the job is unknown.

        Raises:
            ConfigurationError: the id is invalid, or the store cannot be used.
            StoreUnavailable: the store cannot be reached. The undo may have begun.

        Example:
            >>> state = await app.undo(handle.id)
        """
        memory = memory_with_store(self.client, "undo")
        from amqpjobs.state.durable.undone import undo

        return await undo(memory, job_id)

    async def durable_status(self, job_id: str) -> DurableStatus | None:
        """The stored status of a durable job: its state, its steps, and what it waits for.

        Returns:
            None if the job has not begun, is not durable, or ended longer ago than
            ``AMQPJOBS_INBOX_TTL``.

        Raises:
            ConfigurationError: the id is invalid, or the store cannot be used.
            StoreUnavailable: the store cannot be reached.

        Example:
            >>> found = await app.durable_status(handle.id)
            >>> if found is not None:
            ...     print(found.state, [step.name for step in found.waiting])
        """
        if not (has_durable(self.client) and store_exists(self.client.runtime.settings)):
            return None  # looking makes no database
        memory = memory_with_store(self.client, "its status")
        from amqpjobs.state.durable.looking import look

        return await look(memory, job_id)
