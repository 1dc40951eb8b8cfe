"""The handle of a job that RabbitMQ has: its id, and how it is asked what has become of it.

A handle asks its app, which it knows by a protocol only. Changes when a caller may ask for
something else.
"""

from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.durations import Seconds
from amqpjobs.jobs.message.cancellation import Cancellation
from amqpjobs.jobs.message.message import Message
from amqpjobs.jobs.message.status import JobStatus

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Follows(Protocol):
    """What a `JobHandle` asks: an `App` is one."""

    async def status(self, job_id: str, /) -> JobStatus | None:
        """See `App.status`."""
        ...

    async def result(
        self, job_id: str, /, *, timeout: Seconds | None = None, job: str | None = None
    ) -> Any:
        """See `App.result`."""
        ...

    def watch(self, job_id: str, /) -> AsyncGenerator[JobStatus, None]:
        """See `App.watch`."""
        ...

    async def cancel(self, job_id: str, /, *, reason: str = "", undo: bool = False) -> Cancellation:
        """See `App.cancel`."""
        ...

    async def signal(self, job_id: str, name: str, value: Any = None, /) -> bool:
        """See `App.signal`."""
        ...


class FollowsBlocking(Protocol):
    """What a `BlockingJobHandle` asks: a blocking client is one."""

    def status(self, job_id: str, /) -> JobStatus | None:
        """See `App.status`."""
        ...

    def cancel(self, job_id: str, /, *, reason: str = "", undo: bool = False) -> Cancellation:
        """See `App.cancel`."""
        ...

    def result(
        self, job_id: str, /, *, timeout: Seconds | None = None, job: str | None = None
    ) -> Any:
        """See `App.result`."""
        ...

    def watch(self, job_id: str, /) -> Generator[JobStatus, None, None]:
        """See `App.watch`."""
        ...

    def signal(self, job_id: str, name: str, value: Any = None, /) -> bool:
        """See `App.signal`."""
        ...


class _Asks:
    """The app of a handle. No field: it takes no part in equality, ``repr`` and pickling."""

    __slots__ = ("_app",)
    _app: Follows | None


class _AsksBlocking:
    """The same of a `BlockingJobHandle`."""

    __slots__ = ("_client",)
    _client: FollowsBlocking | None


_set = object.__setattr__


@dataclass(frozen=True, slots=True)
class JobHandle(_Asks, Generic[R_co]):
    """What ``later`` returns: RabbitMQ has the job and confirmed it.

    Two handles of one job are equal. A handle that was pickled, copied or made by hand has no app:
    then ask the app by the id, ``app.status(handle.id)``.

    Attributes:
        id: the job's id, which is in every log line about it.
        job: the job's name.
        queue: the queue that it waits in.
        existing: whether the job was there already: see `Unique` and `Debounce`.

    Example:
        >>> handle = await build_report.later(12)
        >>> await handle.result(timeout=30)
        'report 12: 31 orders'
    """

    id: str
    job: str
    queue: str
    existing: bool = field(default=False, compare=False, repr=False)

    async def status(self) -> JobStatus | None:
        """What is known of the job now. See `App.status`.

        Returns:
            None for a job that was not recorded (yet), or that was pruned.

        Raises:
            ConfigurationError: this handle has no app; or the store cannot be used, or is behind.
            StoreUnavailable: it cannot be reached.

        Example:
            >>> status = await handle.status()
            >>> if status is not None:
            ...     print(status.state, status.attempt)
            done 1
        """
        return await self._asked().status(self.id)

    async def result(self, *, timeout: Seconds | None = None) -> R_co:
        """Wait until the job has ended, and return what it returned, validated into the job's
        return type. The job needs ``keep_result``, and a recorder must run. See `App.result`.

        Args:
            timeout: seconds or a timedelta; None for as long as it takes. The job goes on after it.

        Raises:
            JobFailed: the job failed for good; or its own exception, if the app knows the class.
            ResultTimeout: it had not ended in time.
            NoResult: its result is not stored; says why.
            InvalidResult: what is stored is not what the job's annotation allows.
            ConfigurationError: this handle has no app; or the store cannot be used, or is behind.
            StoreUnavailable: it cannot be reached.

        Example:
            >>> report = await handle.result(timeout=30)
        """
        result: R_co = await self._asked().result(self.id, timeout=timeout, job=self.job)
        return result

    def watch(self) -> AsyncGenerator[JobStatus, None]:
        """The status of the job, and then each change as it happens, until it ends. See
        `App.watch`.

        Raises:
            ConfigurationError: this handle has no app; or RabbitMQ does not let this user listen.

        Example:
            >>> async for status in handle.watch():
            ...     print(status.state)
            done
        """
        return self._asked().watch(self.id)

    async def cancel(self, *, reason: str = "", undo: bool = False) -> Cancellation:
        """Cancel the job: it does not start any more, and a run of it is ended if the job is
        ``cancellable``. See `App.cancel`.

        Args:
            reason: for the status and the log, up to 200 characters.
            undo: for a durable job: run the ``undo=`` jobs of its steps and calls.

        Raises:
            ConfigurationError: this handle has no app; or see `App.cancel`.
            StoreUnavailable, PublishError, BrokerUnavailable: see `App.cancel`.

        Example:
            >>> cancellation = await handle.cancel(reason="ordered twice")
        """
        return await self._asked().cancel(self.id, reason=reason, undo=undo)

    async def signal(self, name: str, value: Any = None) -> bool:
        """Send a signal to this job, a durable one. See `App.signal`.

        Args:
            name: of the signal.
            value: a value that can become JSON.

        Returns:
            False if the job has ended, or has had a signal of this name.

        Raises:
            ConfigurationError: this handle has no app; or see `App.signal`.
            InvalidArguments, StoreUnavailable: see `App.signal`.

        Example:
            >>> await handle.signal("approval", {"by": "ada"})
            True
        """
        return await self._asked().signal(self.id, name, value)

    def _asked(self) -> Follows:
        app: Follows | None = getattr(self, "_app", None)
        if app is None:
            raise _without_app(self.id, "app")
        return app


@dataclass(frozen=True, slots=True)
class BlockingJobHandle(_AsksBlocking, Generic[R_co]):
    """What ``later`` of a blocking client returns: a `JobHandle` for code without an event loop.
    It can be asked while the client's ``with`` block is open.

    Attributes:
        id: the job's id, which is in every log line about it.
        job: the job's name.
        queue: the queue that it waits in.
        existing: whether the job was there already: see `Unique` and `Debounce`.

    Example:
        >>> with app.blocking() as client:
        ...     handle = client.later(build_report.message(12))
        ...     handle.result(timeout=30)
        'report 12: 31 orders'
    """

    id: str
    job: str
    queue: str
    existing: bool = field(default=False, compare=False, repr=False)

    def status(self) -> JobStatus | None:
        """What is known of the job now. See `JobHandle.status`.

        Example:
            >>> status = blocking_handle.status()
        """
        return self._asked().status(self.id)

    def result(self, *, timeout: Seconds | None = None) -> R_co:
        """Wait until the job has ended, and return what it returned. See `JobHandle.result`.

        Args:
            timeout: seconds or a timedelta; None for as long as it takes. The job goes on after it.

        Example:
            >>> report = blocking_handle.result(timeout=30)
        """
        result: R_co = self._asked().result(self.id, timeout=timeout, job=self.job)
        return result

    def watch(self) -> Generator[JobStatus, None, None]:
        """The status of the job, and then each change, until it ends. See `JobHandle.watch`.

        Example:
            >>> for status in blocking_handle.watch():
            ...     print(status.state)
            done
        """
        return self._asked().watch(self.id)

    def cancel(self, *, reason: str = "", undo: bool = False) -> Cancellation:
        """Cancel the job. See `JobHandle.cancel`.

        Example:
            >>> cancellation = blocking_handle.cancel(reason="ordered twice")
        """
        return self._asked().cancel(self.id, reason=reason, undo=undo)

    def signal(self, name: str, value: Any = None) -> bool:
        """Send a signal to this job, a durable one. See `JobHandle.signal`.

        Example:
            >>> blocking_handle.signal("approval", {"by": "ada"})
            True
        """
        return self._asked().signal(self.id, name, value)

    def _asked(self) -> FollowsBlocking:
        client: FollowsBlocking | None = getattr(self, "_client", None)
        if client is None:
            raise _without_app(self.id, "client")
        return client


def handle_of(message: Message[R], app: Follows | None) -> JobHandle[R]:
    """The handle of a message that was published, which asks this app."""
    handle: JobHandle[R] = JobHandle(message.id, message.job, message.queue)
    _set(handle, "_app", app)
    return handle


def as_existing(handle: JobHandle[R], job_id: str) -> JobHandle[R]:
    """The handle of the job that a call is, which was there already.

    Args:
        handle: of the call.
        job_id: of that job.
    """
    made: JobHandle[R] = JobHandle(job_id, handle.job, handle.queue, existing=True)
    _set(made, "_app", getattr(handle, "_app", None))
    return made


def blocking_handle_of(handle: JobHandle[R], client: FollowsBlocking) -> BlockingJobHandle[R]:
    """The same handle for synchronous code, which asks this client."""
    made: BlockingJobHandle[R] = BlockingJobHandle(
        handle.id, handle.job, handle.queue, handle.existing
    )
    _set(made, "_client", client)
    return made


def _without_app(job_id: str, asked: str) -> ConfigurationError:
    return ConfigurationError(
        f"this handle has no app: it came from another process, was copied, or was made by hand. "
        f"Use {asked}.status({job_id!r}), and result and watch likewise"
    )
