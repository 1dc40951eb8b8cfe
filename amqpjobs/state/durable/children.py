"""The messages and ids of the jobs that a durable job calls, and of its undo jobs. An id is derived
from the step, so a call that is made twice is one job.

Changes when a called job inherits something else from its durable job.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from amqpjobs.client.prepared import Prepared
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.definition import Definition
from amqpjobs.jobs.durable.running import Given
from amqpjobs.jobs.job import Job, definition_of, template_of
from amqpjobs.jobs.message.bodies import format_name
from amqpjobs.jobs.message.cloud_event import unnumbered
from amqpjobs.jobs.message.compression import SHOWN
from amqpjobs.jobs.message.content import received
from amqpjobs.jobs.message.family import Family, Part
from amqpjobs.jobs.message.header_info import JobHeaders
from amqpjobs.jobs.message.headers import family_header, read_leniently, write
from amqpjobs.jobs.message.ids import derived_id
from amqpjobs.jobs.message.message import Message
from amqpjobs.jobs.message.properties import Properties
from amqpjobs.jobs.results import load_result
from amqpjobs.state.durable.rows import Owner
from amqpjobs.state.durable.run import DurableRun
from amqpjobs.state.durable.typed import NO_HINT, Typed, fingerprint
from amqpjobs.state.durable.values import Undo

if TYPE_CHECKING:
    from amqpjobs.client.client import Client


def child_id(owner: Owner, part: Part, name: str, *more: str) -> str:
    """The id of a job that belongs to a step."""
    return derived_id(part, owner.app, owner.job_id, str(owner.epoch), name, *more)


async def prepare(
    client: "Client", owner: Owner, name: str, part: Part, message: Message[Any], n: int = 0
) -> Prepared:
    """A message as a part of a durable job.

    Raises:
        ConfigurationError: middleware keeps it back, or another job of its kind may take its place.
        MessageTooLarge: it cannot be sent.
    """
    if message.job in client.runtime.registry.deduplicated:
        raise ConfigurationError(
            f"{message.job} has unique= or debounce=, and a call of a durable job is a job of its "
            "own: call another job, which enqueues it"
        )
    own = replace(message, id=child_id(owner, part, name, *([str(n)] if n else [])))
    _, prepared = await client.preparing.prepare(own)
    if prepared is None:
        raise ConfigurationError(
            f"publishing middleware keeps back the call {name!r} of a durable job, which would "
            "wait for it for ever"
        )
    family = family_header(Family(owner.job_id, owner.epoch, name, part, n))
    properties = prepared.properties
    return replace(
        prepared, properties=properties._replace(headers={**properties.headers, **family})
    )


def with_deadline(message: Prepared, deadline: float | None) -> Prepared:
    """A message that is not started after this time (seconds since the epoch)."""
    if deadline is None:
        return message
    headers = message.properties.headers
    own = read_leniently(headers).deadline
    latest = deadline if own is None else min(own, deadline)
    told = {**headers, **write(JobHeaders(deadline=latest))}
    return replace(message, properties=message.properties._replace(headers=told))


class Child:
    """A call of another job.

    Args:
        run: of the durable job.
        name: of the call.
        message: of the other job.
        definition: of it, if it is known here.
    """

    def __init__(
        self,
        run: DurableRun,
        name: str,
        message: Message[Any],
        definition: Definition | None,
    ) -> None:
        self._run = run
        self.name = name
        self._message = message
        self._definition = definition
        self.fingerprint = _fingerprint(message, definition)

    @classmethod
    def of(cls, run: DurableRun, name: str, job: Any, given: Given) -> "Child":
        """A call as a handler makes it.

        Raises:
            ConfigurationError: what is no job.
            InvalidArguments: the arguments do not fit.
        """
        args, kwargs = given
        if isinstance(job, Message):
            if args or kwargs:
                raise ConfigurationError(
                    f"ctx.call({name!r}, ...) takes a job and its arguments, or a message, which "
                    "has them"
                )
            message: Message[Any] = job
            definition = run.shared.client.runtime.registry.known(job.job)
        elif isinstance(job, Job):
            message, definition = job.message(*args, **kwargs), definition_of(job)
        else:
            raise ConfigurationError(
                f"ctx.call({name!r}, ...) takes a job, or a message, not {job!r}; a function is "
                "called by ctx.step"
            )
        return cls(run, name, message, definition)

    async def prepared(self) -> Prepared:
        """Its message.

        Raises:
            ConfigurationError, MessageTooLarge: see `prepare`.
        """
        run = self._run
        message = await prepare(run.shared.client, run.owner, self.name, "call", self._message)
        return with_deadline(message, run.context.deadline)

    def load(self, result: bytes) -> Any:
        """What it has returned.

        Raises:
            InvalidResult: it is not what the annotation of this release allows.
        """
        if self._definition is None:
            return Typed(f"the call {self.name!r}", NO_HINT).load(result)
        return load_result(self._definition, result)


def _fingerprint(message: Message[Any], definition: Definition | None) -> str:
    if definition is None or definition.body is None:
        return fingerprint((message.job, message.body.decode(errors="backslashreplace")), {})
    # A format may write something else each time, such as an id: what it reads counts.
    said = Properties(message.content_type, headers=message.options.headers)
    args, kwargs = definition.payload.load(received(definition.body, said, message.body, SHOWN))
    return fingerprint((message.job, *map(unnumbered, args)), kwargs)


async def undo_of(client: "Client", undo: Any, owner: Owner, name: str) -> Undo | None:
    """What takes a step back.

    Raises:
        ConfigurationError: what is no job, or one that takes more than the result.
    """
    if undo is None:
        return None
    if isinstance(undo, Message):
        return Undo(await prepare(client, owner, name, "undo", undo), given=False)
    if not isinstance(undo, Job):
        raise ConfigurationError(f"undo= of {name!r} is a job, or a message of one, not {undo!r}")
    payload, body = definition_of(undo).payload, definition_of(undo).body
    if body is not None and payload.names:
        raise ConfigurationError(
            f"undo= of {name!r}: {undo.name} is given the result, which is JSON, and has "
            f"body={format_name(body)}. Give it a message with its arguments: "
            f"{undo.name}.message(...)"
        )
    if len(payload.names) > 1:
        raise ConfigurationError(
            f"undo= of {name!r}: {undo.name} takes {len(payload.names)} arguments, and is given "
            f"the result alone. Give it a message with its arguments: {undo.name}.message(...)"
        )
    given = bool(payload.names)
    template = template_of(undo, b"null" if given else b"{}")
    return Undo(await prepare(client, owner, name, "undo", template), given)
