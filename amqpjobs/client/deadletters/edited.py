"""Dead letters with another body. Changes when another body is checked in another way."""

from dataclasses import replace
from typing import TYPE_CHECKING

from amqpjobs.client.deadletters.letter import Letter
from amqpjobs.errors import DecodeError, InvalidArguments, UnknownJob
from amqpjobs.jobs.message.bodies import Bytes, MsgPack, Text
from amqpjobs.jobs.message.cloud_event import CloudEvent
from amqpjobs.jobs.message.content import received
from amqpjobs.jobs.message.properties import JSON
from amqpjobs.telemetry.safe_text import text_in

if TYPE_CHECKING:
    from amqpjobs.jobs.definition import Definition
    from amqpjobs.jobs.registry import Registry


def check_body(registry: "Registry", limit: int, letter: Letter, body: bytes) -> None:
    """Check that the job of a dead letter could run with this body.

    Args:
        limit: the largest body, in bytes.

    Raises:
        UnknownJob: it names no job of this app.
        DecodeError: it does not fit, or is too large; says where, and never shows the values.
    """
    if len(body) > limit:
        raise DecodeError(f"it has {len(body)} bytes, and AMQPJOBS_MAX_MESSAGE_SIZE is {limit}")
    definition = _job_of(registry, letter)
    if definition.body is not None:
        said = letter.properties._replace(content_encoding=None)
        body = received(definition.body, said, body, limit)
    definition.payload.load(body)


def with_body(registry: "Registry", letter: Letter, body: bytes) -> Letter:
    """The letter with a body that `check_body` has passed, not compressed."""
    properties = letter.properties._replace(content_encoding=None)
    if _job_of(registry, letter).body is None:
        properties = properties._replace(content_type=JSON)
    return replace(letter, body=body, properties=properties)


class Editing:
    """Bodies of dead letters as text that a person edits.

    Args:
        registry: of the app.
        limit: the largest body, in bytes.
    """

    def __init__(self, registry: "Registry", limit: int) -> None:
        self._registry = registry
        self._limit = limit

    def is_json(self, letter: Letter) -> bool:
        """Whether the job of a letter takes JSON, as far as that is known; some formats are JSON,
        too."""
        try:
            return not isinstance(_job_of(self._registry, letter).body, Bytes | Text)
        except UnknownJob:
            return True

    def arguments(self, letter: Letter) -> bytes | None:
        """The arguments of a letter whose body is no text, as JSON; None where it is text, where
        they cannot be read, or cannot be sent again without what is in headers."""
        try:
            definition = _job_of(self._registry, letter)
            body = definition.body
            if body is None or isinstance(body, Bytes | Text | CloudEvent):
                return None
            if not isinstance(body, MsgPack) and text_in(letter.readable_body) is not None:
                return None
            data = received(body, letter.properties, letter.body, self._limit)
            return definition.payload.dump_json(*definition.payload.load(data))
        except (UnknownJob, DecodeError, InvalidArguments):
            return None

    def body(self, letter: Letter, arguments: bytes) -> bytes:
        """A body for a letter, in the format of its job.

        Args:
            arguments: as JSON.

        Raises:
            DecodeError: they do not fit, or the format cannot hold them.
        """
        payload = _job_of(self._registry, letter).payload
        args, kwargs = payload.load_json(arguments)
        try:
            return payload.dump(args, kwargs)
        except InvalidArguments as error:
            raise DecodeError(str(error)) from None


def _job_of(registry: "Registry", letter: Letter) -> "Definition":
    if letter.job is not None:
        return registry.resolve(letter.job)
    only = [d for d in registry.jobs.values() if d.queue.name == letter.queue]
    if len(only) != 1:
        raise UnknownJob(
            "it names no job (AMQP property `type`), so that it cannot be checked: export it, "
            "write the type into the file, and import it",
            job="",
        )
    return only[0]
