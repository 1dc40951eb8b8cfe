"""What an app has of locks and of calls that are one job: `App.lock`.

Changes when a program may ask something else of them.
"""

from typing import TYPE_CHECKING, TypeVar

from amqpjobs.jobs.durations import Seconds
from amqpjobs.state.store.engine import missing

if TYPE_CHECKING:
    from amqpjobs.client.client import Client
    from amqpjobs.jobs.message.handle import JobHandle
    from amqpjobs.jobs.message.message import Message
    from amqpjobs.state.limits.lock import Lock

R = TypeVar("R")


class Excludes:
    """What an `App` has of locks and of calls that are one job."""

    @property
    def client(self) -> "Client":
        """The client of the app."""
        raise NotImplementedError

    def lock(self, name: str, *, lease: Seconds = 60.0, timeout: Seconds | None = None) -> "Lock":
        """A lock by name, for ``async with``: one holder in all processes that share the store. It
        is renewed while it is held.

        A process that is frozen for longer than the lease has lost the lock and does not know it:
        what it writes then is refused where the newest `Lock.token` is kept.

        Args:
            name: of the lock, in this app.
            lease: seconds, or a timedelta, after which it is free if its process died.
            timeout: seconds, or a timedelta, to wait for it; None for as long as it takes.

        Raises:
            LockTimeout: on entering: it was not free in time.
            StoreUnavailable: the store is away.
            ConfigurationError: the extra ``sql`` is missing, or the store is behind.

        Example:
            >>> async with app.lock("invoice:7", lease=60) as lock:
            ...     token = lock.token
        """
        try:
            from amqpjobs.state.limits.lock import Lock
            from amqpjobs.state.memory import memory_of
        except ImportError as error:
            raise missing(error) from error
        return Lock(memory_of(self.client), name, lease, timeout)

    async def _enqueue_once(self, message: "Message[R]") -> "JobHandle[R]":
        """Publish one message of a job with ``unique=`` or ``debounce=``, unless its job is there
        already. `enqueue` and `Job.later` do this by themselves.

        Raises:
            StoreUnavailable: the store is away; nothing is known to be stored.
            PublishError: RabbitMQ refuses it.
        """
        from amqpjobs.state.limits.once import enqueue_once
        from amqpjobs.state.memory import memory_of

        return await enqueue_once(memory_of(self.client), message)
