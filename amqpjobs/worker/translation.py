"""Reads an event, or a message of another program, as a job: which one it is, and its id.

Changes when a message may name its job otherwise.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from amqpjobs.broker.amqp.frames import HeaderView
from amqpjobs.broker.rabbitmq.translated_delivery import become
from amqpjobs.errors import DecodeError
from amqpjobs.jobs.message.bodies import own
from amqpjobs.jobs.message.headers import origin_of
from amqpjobs.jobs.message.origin import Origin, job_id_of
from amqpjobs.jobs.message.properties import Properties
from amqpjobs.jobs.queue.queue import Queue

if TYPE_CHECKING:
    from amqpjobs.broker.rabbitmq.translated_delivery import Translate
    from amqpjobs.jobs.definition import Definition
    from amqpjobs.jobs.message.envelope import Envelope
    from amqpjobs.jobs.registry import Registry


class Translation:
    """Translates the messages of one AMQP queue.

    Args:
        registry: what the app declares.
        queue: the AMQP queue.
        only: the job for what another program has sent to its own queue, which knows no job of
            ours; None for a queue of ours, and where the queue has several jobs.
    """

    def __init__(self, registry: "Registry", queue: str, only: "Definition | None") -> None:
        self._jobs, self._routes = registry.jobs, registry.routes
        self._queue = queue
        self._only = only

    @property
    def envelope(self) -> "Envelope | None":
        """No other job system writes to this queue."""
        return None

    def __call__(self, view: HeaderView, origin: Origin | None, body: bytes) -> bool:
        """Name the job, and give it an id that follows from the event's.

        Raises:
            DecodeError: the headers are malformed.
        """
        if view.type is None or view.type not in self._jobs:
            view.type = self._job(view, origin)
        if origin is not None and origin.job_id is not None:
            view.message_id = origin.job_id  # a copy: of an event it says what it was made of
        elif origin is not None and view.message_id:
            view.message_id = job_id_of(view.message_id, self._queue)
        return False

    def _job(self, view: HeaderView, origin: Origin | None) -> str | None:
        """The name of the job; what nothing here handles keeps a name that says what it is."""
        if origin is None or not self._routes.of(self._queue):
            return view.type if self._only is None else self._only.name
        found = self._routes.find(self._queue, origin, view.headers)
        return f"{origin.exchange}:{origin.routing_key}" if found is None else found.name


class EnvelopeTranslation(Translation):
    """Translates the messages of a queue that another job system writes to.

    Args:
        registry: what the app declares.
        queue: the AMQP queue.
        only: as above.
        envelope: reads the messages of that system.
    """

    def __init__(
        self, registry: "Registry", queue: str, only: "Definition | None", envelope: "Envelope"
    ) -> None:
        super().__init__(registry, queue, only)
        self._envelope = envelope

    @property
    def envelope(self) -> "Envelope":
        """How that system writes its messages."""
        return self._envelope

    def __call__(self, view: HeaderView, origin: Origin | None, body: bytes) -> bool:
        """Read it as that system wrote it, or as any other message.

        Raises:
            DecodeError: it cannot be read.
        """
        found = self._envelope.read(view.properties(), body)
        if found is None:
            return super().__call__(view, origin, body)
        try:
            become(view, found)
        except ValueError as error:
            raise DecodeError(f"its headers cannot be translated: {error}") from None
        return True


def has_job_for(registry: "Registry", properties: Properties, queue: str) -> bool:
    """Whether a message from an AMQP queue has a job here."""
    name, origin = properties.type, origin_of(properties.headers)
    if name is not None and registry.known(name) is not None:
        return True
    if origin is not None and registry.routes.of(queue):
        return registry.routes.find(queue, origin, properties.headers) is not None
    return name is None and queue in registry.only_jobs()


def translation_of(
    registry: "Registry", queue: Queue, lane: str, only: "Mapping[str, Definition]"
) -> "Translate | None":
    """What translates the messages of an AMQP queue; None for one that gets ours alone.

    Args:
        registry: what the app declares.
        queue: the queue.
        lane: the AMQP queue.
        only: by AMQP queue: the one job for messages that name none.
    """
    envelope = _envelope_of(registry, queue)
    if envelope is not None:
        return EnvelopeTranslation(registry, lane, only.get(lane), envelope)
    if not queue.foreign and not registry.routes.of(lane):
        return None
    return Translation(registry, lane, only.get(lane) if queue.foreign else None)


def _envelope_of(registry: "Registry", queue: Queue) -> "Envelope | None":
    """The job system that writes to a queue: the formats of its jobs know it."""
    found: list[Envelope] = []
    for definition in registry.jobs.values():
        envelope = None if definition.body is None else own(definition.body, "envelope")
        if envelope is not None and definition.queue.name == queue.name:
            if found and type(found[0]) is not type(envelope):
                raise definition.fail(
                    f"another job of the queue {queue.name!r} has the format of another job "
                    "system: give it a queue of its own"
                )
            found.append(envelope)
    return found[0] if found else None
