"""Calls tasks that Celery's workers run, and waits for their results.

Changes when a call of a task can say something else.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar, Unpack, overload

from amqpjobs.client.blocking import BlockingApp, call_of
from amqpjobs.client.client import HasClient
from amqpjobs.contrib.celery.calls import TaskCall, body_of, properties_of
from amqpjobs.contrib.celery.options import TaskOptions, due, limit_of, moment_of
from amqpjobs.contrib.celery.results import FAILURE, REVOKED, Raised, read_result
from amqpjobs.errors import (
    ConfigurationError,
    DecodeError,
    InvalidResult,
    JobFailed,
    MessageTooLarge,
)
from amqpjobs.jobs.durations import Seconds, number_of
from amqpjobs.jobs.exceptions import by_name
from amqpjobs.jobs.message.own_headers import header_fields
from amqpjobs.jobs.message.properties import JSON, TRANSIENT, Properties
from amqpjobs.jobs.message.reply import as_raised, read_value

if TYPE_CHECKING:
    from amqpjobs.client.publisher import Publisher

T = TypeVar("T")

LONGEST_NAME: Final = 255
"""Bytes of a name or an id in AMQP."""


class CeleryTasks:
    """Calls tasks of Celery by their names, from an app of amqpjobs.

    Args:
        app: whose connection is used.
        queue: of the workers that run the tasks.

    Example:
        >>> from amqpjobs.contrib.celery import CeleryTasks
        >>> tasks = CeleryTasks(app, queue="celery")
    """

    def __init__(self, app: HasClient, *, queue: str = "celery") -> None:
        self._app = app
        self._queue = queue

    def __repr__(self) -> str:
        return f"<CeleryTasks for {self._queue}>"

    async def send_task(
        self,
        name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        timeout: Seconds | None = None,
        **options: Unpack[TaskOptions],
    ) -> str:
        """Send a task. Returns its id once RabbitMQ has it on disk and has confirmed. Nobody gets
        its result.

        Args:
            name: of the task, such as ``shop.tasks.add``.
            args: its arguments: what Celery's JSON holds, with datetimes, decimals, UUIDs, bytes;
                and models of pydantic and dataclasses, which arrive as dicts.
            kwargs: those by name.
            timeout: seconds or a timedelta until it must be confirmed; None for the setting
                ``AMQPJOBS_PUBLISH_TIMEOUT``.
            options: see `TaskOptions`.

        Raises:
            InvalidArguments: an argument cannot become JSON.
            ConfigurationError: an option that no task can have.
            MessageTooLarge, Unroutable, PublishRejected: it is stored nowhere.
            NotConfirmed: not confirmed within the timeout; see its ``sent``.

        Example:
            >>> task_id = await tasks.send_task("shop.tasks.add", (2, 3), countdown=10)
        """
        settings, now = self._app.client.runtime.settings, self._app.client.runtime.clock.time()
        call, queue = self._call(name, args, kwargs, now, options)
        body = body_of(replace(call, ignore_result=True))
        self._check_size(call, body)
        publisher = await self._app.client.publisher()
        properties = properties_of(_traced(replace(call, ignore_result=True), publisher), now)
        seconds = settings.publish_timeout if timeout is None else number_of(timeout)
        if seconds is None or seconds <= 0:
            raise ConfigurationError(f"timeout is seconds above 0, not {timeout!r}")
        await publisher.restoring.publish(queue, properties, body, seconds)
        return call.id

    @overload
    async def request_task(
        self,
        name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        timeout: Seconds | None = None,
        returns: type[T],
        **options: Unpack[TaskOptions],
    ) -> T: ...
    @overload
    async def request_task(
        self,
        name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        timeout: Seconds | None = None,
        returns: None = None,
        **options: Unpack[TaskOptions],
    ) -> Any: ...
    async def request_task(
        self,
        name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        timeout: Seconds | None = None,
        returns: Any = None,
        **options: Unpack[TaskOptions],
    ) -> Any:
        """Send a task, and wait for its result, over all retries that Celery makes.

        Its worker needs ``result_backend = "rpc://"``. With another backend nothing comes, and the
        call ends with `ReplyTimeout`.

        Args:
            name: see `send_task`.
            args: see `send_task`.
            kwargs: see `send_task`.
            timeout: seconds or a timedelta until the result must be there; None for the setting
                ``AMQPJOBS_REQUEST_TIMEOUT``. A task that was not started by then is not run.
            returns: the type of the result, which is validated; None for what JSON has.
            options: see `TaskOptions`.

        Raises:
            JobFailed: the task failed; or its own exception, if the app knows the class.
            ReplyTimeout, ReplyLost: there is no result.
            InvalidResult: it is not of the type.
            PublishError: the request did not get to RabbitMQ, or there is no such queue.
            InvalidArguments, ConfigurationError, MessageTooLarge: as `send_task`.

        Example:
            >>> await tasks.request_task("shop.tasks.add", (2, 3), timeout=5, returns=int)
            5
        """
        now = self._app.client.runtime.clock.time
        call, queue = self._call(name, args, kwargs, now(), options)
        body = body_of(call)
        self._check_size(call, body)

        def properties(publisher: "Publisher", reply_to: str, left: float) -> Properties:
            expires = now() + left
            expires = expires if call.expires is None else min(expires, call.expires)
            asked = replace(call, reply_to=reply_to, expires=expires)
            return properties_of(_traced(asked, publisher), now())._replace(delivery_mode=TRANSIENT)

        requests = self._app.client.requests
        reply = await requests.foreign(queue, body, properties, timeout, _is_last)
        return self._result(call, reply.body, returns)

    def blocking(self, client: BlockingApp) -> "BlockingCeleryTasks":
        """The same for synchronous code.

        Args:
            client: an open client of the app.

        Example:
            >>> with app.blocking() as client:
            ...     task_id = tasks.blocking(client).send_task("shop.tasks.add", (2, 3))
        """
        return BlockingCeleryTasks(self, client)

    def _call(
        self,
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any] | None,
        now: float,
        options: TaskOptions,
    ) -> tuple[TaskCall, str]:
        if isinstance(args, str | bytes) or not isinstance(args, Sequence):
            raise ConfigurationError(f"{name}: args is a list or tuple of arguments, not {args!r}")
        task_id = options.get("task_id") or str(uuid.uuid4())
        for what, value in (("name", name), ("task_id", task_id)):
            if not value or len(value.encode()) > LONGEST_NAME:
                raise ConfigurationError(f"{what} of a task is a text of 1 to {LONGEST_NAME} bytes")
        call = TaskCall(
            task=name,
            id=task_id,
            args=args,
            kwargs=kwargs or {},
            eta=due(now, options),
            expires=moment_of("expires", now, options.get("expires")),
            time_limit=limit_of("time_limit", options.get("time_limit")),
            soft_time_limit=limit_of("soft_time_limit", options.get("soft_time_limit")),
            priority=options.get("priority"),
            headers=header_fields(options.get("headers") or {}),
            origin=self._app.client.runtime.registry.name,
        )
        return call, options.get("queue") or self._queue

    def _check_size(self, call: TaskCall, body: bytes) -> None:
        limit = self._app.client.runtime.settings.max_message_size
        if len(body) > limit:
            raise MessageTooLarge(
                f"{call.task}: the message has {len(body)} bytes, the limit is {limit}: store "
                "large data elsewhere and send where it is, or raise AMQPJOBS_MAX_MESSAGE_SIZE",
                message_id=call.id,
            )

    def _result(self, call: TaskCall, body: bytes, returns: Any) -> Any:
        try:
            result = read_result(body)
        except DecodeError as error:
            raise InvalidResult(f"the result of {call.task!r}: {error}") from None
        if result.status in (FAILURE, REVOKED):
            raised = result.raised or Raised("unknown", "", None)
            failed = JobFailed(
                raised.text, error=raised.name, job=call.task, attempt=None, job_id=call.id
            )
            known = by_name(self._app.client.runtime.registry.exceptions)
            raise as_raised(failed, known)
        return read_value(call.task, result.value, JSON, returns)


class BlockingCeleryTasks:
    """The same from threads without an event loop: `CeleryTasks.blocking` makes it."""

    def __init__(self, tasks: CeleryTasks, client: BlockingApp) -> None:
        self._tasks = tasks
        self._client = client

    def send_task(
        self,
        name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        timeout: Seconds | None = None,
        **options: Unpack[TaskOptions],
    ) -> str:
        """Send a task. See `CeleryTasks.send_task`."""

        async def send() -> str:
            return await self._tasks.send_task(name, args, kwargs, timeout=timeout, **options)

        found: str = call_of(self._client)(send)
        return found

    @overload
    def request_task(
        self,
        name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        timeout: Seconds | None = None,
        returns: type[T],
        **options: Unpack[TaskOptions],
    ) -> T: ...
    @overload
    def request_task(
        self,
        name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        timeout: Seconds | None = None,
        returns: None = None,
        **options: Unpack[TaskOptions],
    ) -> Any: ...
    def request_task(
        self,
        name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        timeout: Seconds | None = None,
        returns: Any = None,
        **options: Unpack[TaskOptions],
    ) -> Any:
        """Send a task, and wait for its result. See `CeleryTasks.request_task`."""

        async def ask() -> Any:
            return await self._tasks.request_task(
                name, args, kwargs, timeout=timeout, returns=returns, **options
            )

        return call_of(self._client)(ask)


def _is_last(body: bytes) -> bool:
    """Whether nothing follows: Celery tells of each retry, and that a task has begun."""
    try:
        return read_result(body).is_final
    except DecodeError:
        return True


def _traced(call: TaskCall, publisher: "Publisher") -> TaskCall:
    trace = publisher.trace()
    return replace(call, headers={**trace, **call.headers}) if trace else call
