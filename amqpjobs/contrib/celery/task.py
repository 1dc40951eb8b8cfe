"""``body=CeleryTask``: jobs that Celery's producers send, and that Celery's workers may run, too.

Changes when what a task of Celery means for a job does.
"""

import bz2
import zlib
from collections.abc import Sequence
from typing import Any, ClassVar, Final

from amqpjobs.contrib.celery.calls import body_of, properties_of
from amqpjobs.contrib.celery.followers import Ended, Next
from amqpjobs.contrib.celery.headers import TaskHeaders, is_task, read_headers
from amqpjobs.contrib.celery.payload import CeleryPayload
from amqpjobs.contrib.celery.raised import raised_of, revoked
from amqpjobs.contrib.celery.results import REVOKED, Task, failure_body, success_body
from amqpjobs.contrib.celery.task_body import TaskBody, read_body
from amqpjobs.contrib.celery.values import read_json
from amqpjobs.errors import DecodeError
from amqpjobs.jobs.message.carried import Carried
from amqpjobs.jobs.message.envelope import DONE, FAILED, Addressed, Ending
from amqpjobs.jobs.message.header_info import JobHeaders
from amqpjobs.jobs.message.headers import callbacks_header, read_leniently, write, write_carried
from amqpjobs.jobs.message.properties import JSON, TRANSIENT, FieldValue, Headers, Properties

LARGEST: Final = 64 * 2**20
"""Bytes that a compressed body may become."""

NOTHING_FOLLOWS: Final = (
    b'{"callbacks": null, "errbacks": null, "chain": null, "chord": null}]',
    b'{"callbacks":null,"errbacks":null,"chain":null,"chord":null}]',
)
"""How nearly every body ends, by Celery's own JSON, and by ours."""

PROTOCOL_1: Final = (b'"task"', b'"args"', b'"kwargs"')
"""Names in the body of a task of protocol 1. Other messages of the queue, such as events, are not
Celery's."""


class CeleryTask:
    """The format of Celery's tasks, protocol 2 with JSON: ``@app.job(queue=..., body=CeleryTask,
    name="shop.tasks.add")``.

    The job's name is the task's. A worker runs what Celery's producers send, and sends the result
    to Celery's ``rpc://`` backend. Retries and dead letters stay valid messages for Celery's own
    workers. ``later`` sends what they can run. See the guide, "Move from Celery one side at a
    time".

    Example:
        >>> from amqpjobs.contrib.celery import CeleryTask
        >>> tasks = Queue("celery", type="classic", foreign=True)
        >>> @app.job(queue=tasks, body=CeleryTask, name="shop.tasks.add")
        ... async def add(x: int, y: int) -> int:
        ...     return x + y
    """

    content_type: ClassVar[str] = JSON
    accepts: ClassVar[frozenset[str] | None] = None
    payload: ClassVar[type[CeleryPayload]] = CeleryPayload
    no_request: ClassVar[str] = (
        "a worker of Celery may run it, whose result is another one: "
        "CeleryTasks(app).request_task(...) asks both"
    )

    def __repr__(self) -> str:
        return "CeleryTask()"

    @property
    def envelope(self) -> "CeleryTask":
        """See `amqpjobs.jobs.message.envelope.Envelope`."""
        return self

    def load(self, data: bytes, /) -> Any:
        """Decode a body, without binding it to the parameters of a job.

        Raises:
            DecodeError: it is no JSON.
        """
        return read_json(data)

    def dump(self, value: Any, /) -> bytes:
        """A job binds its arguments itself: see `CeleryPayload`.

        Raises:
            TypeError: always.
        """
        raise TypeError("CeleryTask is the format of a job: give it to @app.job(body=CeleryTask)")

    def received(self, content_type: str | None, headers: Headers, data: bytes) -> bytes:
        """A body as it was before Celery has compressed it.

        Raises:
            DecodeError: it is no JSON by its content type, or compressed in another way.
        """
        kind = (content_type or JSON).partition(";")[0].strip().lower()
        if kind != JSON:
            raise DecodeError(
                f"content type {kind[:100]!r}: of Celery's serializers only JSON is read, and "
                "pickle never, since it runs what it holds: set task_serializer='json' where the "
                "task is sent"
            )
        compression = headers.get("compression")
        if compression is None or data.lstrip().startswith(b"["):  # a dead letter that was edited
            return data
        return _decompressed(data, compression)

    def described(self, _: dict[str, Any]) -> dict[str, Any]:
        """The JSON Schema of a body. Which arguments are by position, the producer chooses."""
        parts = [{"type": "array"}, {"type": "object"}, {"type": ["object", "null"]}]
        return {"type": "array", "items": parts, "minItems": 2, "maxItems": 3}

    def read(self, properties: Properties, body: bytes) -> Properties | None:
        """See `Envelope.read`."""
        if not is_task(properties.headers):
            if properties.type is None and all(name in body for name in PROTOCOL_1):
                raise DecodeError(
                    "it is no task of Celery's protocol 2, which has the header 'task': set "
                    "task_protocol = 2, the default since Celery 4, where it is sent"
                )
            return None
        if properties.app_id is not None:  # sent by `later`, with headers of our own
            return None
        task = read_headers(properties.headers)
        reply_to = "" if task.ignore_result else properties.reply_to or ""
        return properties._replace(
            headers={**properties.headers, **_our_headers(properties.headers, task, body)},
            content_encoding=None,
            reply_to=reply_to,
            message_id=task.id,
            type=task.task,
        )

    def replies(self, properties: Properties, body: bytes, ending: Ending) -> Sequence[Addressed]:
        """See `Envelope.replies`."""
        task = read_headers(properties.headers)
        ended = self._ended(task, properties.headers, body, ending)
        found = []
        if properties.reply_to and not task.ignore_result:
            correlation_id = properties.correlation_id or task.id
            children = [each.call.id for each in _after(ended, ending)]
            data = _result(Task(task.id, task.group, _parent(properties), children), ending)
            found.append(_reply(properties.reply_to, correlation_id, data))
        if ending.word == FAILED and ended is not None:
            for task_id, reply_to in ended.fails_with_it():
                found.append(_reply(reply_to, task_id, _result(Task(task_id), ending)))
        return found

    def followers(self, properties: Properties, body: bytes, ending: Ending) -> Sequence[Addressed]:
        """See `Envelope.followers`."""
        headers = properties.headers
        ended = self._ended(read_headers(headers), headers, body, ending)
        return [
            Addressed(each.queue or "", properties_of(each.call, ending.now), body_of(each.call))
            for each in _after(ended, ending)
        ]

    def _ended(
        self, task: TaskHeaders, headers: Headers, body: bytes, ending: Ending
    ) -> Ended | None:
        """What is known of a task that has ended; None if its body cannot be read."""
        try:
            found: TaskBody = read_body(self.received(None, headers, body))
        except DecodeError:
            return None
        return Ended(task, found, ending.now)


def _after(ended: Ended | None, ending: Ending) -> list[Next]:
    if ended is None:
        return []
    if ending.word == DONE:
        return ended.after_success(read_json(ending.result))
    return ended.after_failure() if ending.word == FAILED else []


def _our_headers(headers: Headers, task: TaskHeaders, body: bytes) -> dict[str, FieldValue]:
    """What Celery's headers say, as ours say it. Both may be there: a message that one side has
    retried goes to the other with the headers of both, and the later one of two times is that of
    the last retry."""
    ours = read_leniently(headers)
    due = max(filter(None, (ours.due, task.eta)), default=None)
    deadline = ours.deadline
    if deadline is None and not ours.epoch:  # a replay is after its deadline, on purpose
        deadline = task.expires
    said = JobHeaders(max(ours.attempt, task.retries + 1), deadline, due, ours.epoch)
    found = write(said)
    if task.time_limit is not None:
        found |= write_carried(Carried(timeout=task.time_limit))
    if task.compression is not None or not body.endswith(NOTHING_FOLLOWS):
        found |= callbacks_header({})
    return found


def _parent(properties: Properties) -> str | None:
    parent = properties.headers.get("parent_id")
    return parent if isinstance(parent, str) else None


def _result(task: Task, ending: Ending) -> bytes:
    if ending.word == DONE:
        return success_body(task, ending.result, ending.now)
    if ending.word == FAILED and ending.failure is not None:
        return failure_body(task, raised_of(ending.failure, ending.error), ending.now)
    return failure_body(task, revoked(ending.word), ending.now, REVOKED)


def _reply(queue: str, correlation_id: str, body: bytes) -> Addressed:
    properties = Properties(
        content_type=JSON,
        content_encoding="utf-8",
        delivery_mode=TRANSIENT,
        priority=0,
        correlation_id=correlation_id,
    )
    return Addressed(queue, properties, body)


def _decompressed(data: bytes, compression: FieldValue) -> bytes:
    """In one go with a limit: a small body may say that it becomes gigabytes."""
    unpacker: Any
    match compression:
        case "application/x-gzip" | "gzip" | "zlib":
            unpacker = zlib.decompressobj()  # kombu's gzip is zlib's format (RFC 1950)
        case "application/x-bz2" | "bzip2" | "bzip":
            unpacker = bz2.BZ2Decompressor()
        case _:
            raise DecodeError(
                f"it is compressed as {str(compression)[:50]!r}, and of Celery's compressions "
                "gzip, zlib and bzip2 are read"
            )
    try:
        found: bytes = unpacker.decompress(data, LARGEST + 1)
    except (zlib.error, OSError, ValueError, EOFError) as error:
        raise DecodeError(f"the body is not {str(compression)[:50]}: {error}") from None
    if len(found) > LARGEST or not unpacker.eof:
        raise DecodeError(f"the body is cut off, or becomes more than {LARGEST} bytes")
    return found
