"""What an app has to operate its durable jobs: `App.signal`, `App.undo`, `App.durable_status`.

Changes when a program may do something else with one.
"""

from typing import TYPE_CHECKING, Any

from amqpjobs.jobs.durable.status import DurableStatus
from amqpjobs.state.needs import has_durable, memory_with_store
from amqpjobs.state.store.engine import store_exists

if TYPE_CHECKING:
    from amqpjobs.client.client import Client


class Operates:
    """What an `App` has for its durable jobs."""

    @property
    def client(self) -> "Client":
        """The client of the app."""
        raise NotImplementedError

    async def signal(self, job_id: str, name: str, value: Any = None) -> bool:
        """Send a signal to a durable job, which takes it by ``ctx.signal(name, type)``. A signal
        that comes early is kept, also for a job that has not begun.

        The signal is stored when this returns. The job validates the value when it takes it.

        Args:
            job_id: the job's id.
            name: of the signal; a job takes one signal of each name.
            value: what can become JSON: a pydantic model, a dataclass, plain values; up to 256 KB.

        Returns:
            False if the job does not take it: it has ended, or has had a signal of this name.

        Raises:
            ConfigurationError: an id or a name that cannot be one; or the store cannot be used.
            InvalidArguments: the value cannot become JSON, or is too large.
            StoreUnavailable: the store cannot be reached; it is not known whether it was stored.

        Example:
            >>> await app.signal(handle.id, "approval", {"by": "ada"})
            True
        """
        memory = memory_with_store(self.client, "a signal")
        from amqpjobs.state.durable.signalling import body_of, send

        return await send(memory, job_id, name, body_of(name, value))

    async def undo(self, job_id: str) -> str | None:
        """Undo a durable job that has ended: what its steps and calls have as ``undo=`` runs, the
        last one first. For a job whose undo has failed (``undo_failed``): try what has failed
        again, as new jobs, and go on.

        Returns:
            The state of the job now: ``undoing``, until the jobs that take it back are done; or
            another one for a job that cannot be undone, such as ``suspended``, which is to be
            cancelled instead, or ``done`` where nothing of it has an undo. None for an unknown job.

        Raises:
            ConfigurationError: an id that cannot be one; or the store cannot be used.
            StoreUnavailable: the store cannot be reached; it is not known whether it was stored.

        Example:
            >>> state = await app.undo(handle.id)
        """
        memory = memory_with_store(self.client, "undo")
        from amqpjobs.state.durable.undone import undo

        return await undo(memory, job_id)

    async def durable_status(self, job_id: str) -> DurableStatus | None:
        """What is stored of a durable job: its state, its steps, and what it waits for.

        Returns:
            None for a job that has not begun, that is no durable job, or that ended long ago
            (``AMQPJOBS_INBOX_TTL``).

        Raises:
            ConfigurationError: an id that cannot be one; or the store cannot be used.
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
