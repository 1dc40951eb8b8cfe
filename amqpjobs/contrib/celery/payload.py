"""The arguments of a job as Celery sends them: by position and by name, bound to its parameters.

Changes when Celery's body does, or how a handler takes it.
"""

from dataclasses import replace
from typing import Any

from pydantic_core import from_json

from amqpjobs.contrib.celery.calls import EMBED
from amqpjobs.contrib.celery.followers import check_followers
from amqpjobs.contrib.celery.task_body import read_body
from amqpjobs.contrib.celery.values import plain, write_json
from amqpjobs.errors import DecodeError
from amqpjobs.jobs.message.arguments import Arguments, Payload
from amqpjobs.jobs.message.bodies import Encoded
from amqpjobs.jobs.message.formatted import FormattedPayload
from amqpjobs.jobs.message.message import Message
from amqpjobs.jobs.message.properties import JSON


class CeleryPayload(FormattedPayload):
    """The parameters of one job in the body of a task message. They are validated as those of any
    job: what Celery sent becomes the JSON that amqpjobs itself would have sent."""

    def load(self, body: bytes) -> Arguments:
        """Decode a body, bind what it has to the parameters, and validate it.

        Raises:
            DecodeError: it is no task, or its arguments do not fit; never shows the values.
        """
        task = read_body(body)
        check_followers(task)
        try:
            bound = self._signature.bind(*plain(task.args), **plain(task.kwargs)).arguments
        except TypeError as error:
            raise DecodeError(f"{self.job}: {error}") from None
        if self._single is None:
            return Payload.load(self, write_json(bound))
        if self._single.name in bound:
            return Payload.load(self, write_json(bound[self._single.name]))
        if self._single.kind is self._single.KEYWORD_ONLY:
            return (), {}
        return (self._single.default,), {}

    def dump(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """Validate arguments, and encode them as a body. Those that have no name for the caller go
        by position, the others by name.

        Raises:
            InvalidArguments: they do not fit.
        """
        value = from_json(Payload.dump(self, args, kwargs))
        single = self._single
        named: dict[str, Any] = value if single is None else {single.name: value}
        unnamed = [
            named.pop(name)
            for name, parameter in self._signature.parameters.items()
            if parameter.kind is parameter.POSITIONAL_ONLY and name in named
        ]
        return write_json([unnamed, named, dict(EMBED)])

    def encode(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Encoded:
        """The same, as it is published.

        Raises:
            InvalidArguments: as `dump`.
        """
        return Encoded(self.dump(args, kwargs), JSON, {})

    def addressed(self, encoded: Encoded, message: Message[Any]) -> Encoded:
        """With the headers by which Celery's workers know the task."""
        return replace(encoded, headers={"task": message.job, "id": message.id, "lang": "py"})
