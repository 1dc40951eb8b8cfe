"""Enqueueing over HTTP, and what jobs there are. Changes when a caller can say something new.

A body is a job's body as it is on the wire, validated by the job's own schema before it is sent.
"""

import inspect
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request
from pydantic import BaseModel, Field, PydanticUserError
from starlette.responses import JSONResponse, Response

from amqpjobs.client.client import registry_of
from amqpjobs.errors import ConfigurationError, NotPermitted, PublishError, TopologyMismatch
from amqpjobs.jobs.definition import Definition
from amqpjobs.jobs.job import Job, message_from
from amqpjobs.jobs.message.ids import keyed_id
from amqpjobs.jobs.message.message import Message
from amqpjobs.jobs.message.own_headers import headers_from
from amqpjobs.web.bodies import read_body
from amqpjobs.web.problems import Problem, problem_of, problems
from amqpjobs.web.tier import Tier

RETRY_AFTER = "1"
"""Seconds after which to look at the status."""

JSON_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The job's arguments: the value of its only parameter, or an object of "
        "several by name; {} where it has none.",
        "content": {"application/json": {"schema": {}}},
    }
}


class Links(BaseModel):
    """Where to look next; paths on this server."""

    status: str
    events: str


class Accepted(BaseModel):
    """A job that RabbitMQ has, confirmed."""

    id: str = Field(description="The job's id, the same over all its runs.")
    job: str
    queue: str
    derived: bool = Field(
        description="Whether the id follows from the Idempotency-Key: then a second request with "
        "it gets the same id. Both are enqueued; by their id they count as one job."
    )
    links: Links


class Choices:
    """The query of a call: what may be said about it beyond its arguments."""

    def __init__(
        self,
        priority: Annotated[
            str | None, Query(max_length=255, description="One of the queue's priorities.")
        ] = None,
        delay: Annotated[
            float | None, Query(description="Seconds to wait before it is started.")
        ] = None,
        expires: Annotated[
            float | None, Query(description="Seconds after which it is no longer started.")
        ] = None,
        header: Annotated[
            list[str] | None,
            Query(
                max_length=100,
                description="`name=value`: a header of the message; may be given several times.",
            ),
        ] = None,
        tag: Annotated[
            list[str] | None,
            Query(max_length=100, description="A word for people; may be given several times."),
        ] = None,
    ) -> None:
        self.priority: str | int | None = (
            int(priority) if priority and priority.isascii() and priority.isdigit() else priority
        )
        self.delay = delay
        self.expires = expires
        self.headers = header or ()
        self.tags = tag


class Described(BaseModel):
    """A job as callers see it."""

    name: str
    queue: str
    priorities: list[str]
    description: str | None
    arguments: dict[str, Any] = Field(description="JSON Schema of the body.")
    result: dict[str, Any] | None = Field(
        description="JSON Schema of what it returns; null where that cannot become JSON."
    )


class Jobs:
    """Routes that are about jobs, not about one that was enqueued.

    Args:
        tier: what the routes share.
    """

    def __init__(self, tier: Tier) -> None:
        self._tier = tier

    def add_to(self, router: APIRouter) -> None:
        """Add the routes."""
        router.add_api_route(
            "/jobs/schemas", self.schemas, summary="All jobs", responses=problems(401, 403)
        )
        router.add_api_route(
            "/jobs/schemas/{name:path}",
            self.schema,
            summary="One job",
            responses=problems(401, 403, 404, 422),
        )
        router.add_api_route(
            "/jobs/{name:path}",
            self.enqueue,
            methods=["POST"],
            status_code=202,
            response_model=Accepted,
            summary="Enqueue a job",
            responses=problems(401, 403, 404, 408, 413, 415, 422, 503),
            openapi_extra=JSON_BODY,
        )

    async def schemas(self) -> list[Described]:
        """All jobs, their queues, and the JSON Schemas of their arguments and results."""
        return [described(each) for each in self._tier.app.jobs.values()]

    async def schema(self, name: str) -> Described:
        """One job, its queue, and the JSON Schemas of its arguments and result."""
        return described(registry_of(self._tier.app).find(name))

    async def enqueue(
        self,
        name: str,
        request: Request,
        choices: Annotated[Choices, Depends()],
        idempotency_key: Annotated[str | None, Header(max_length=255)] = None,
    ) -> Response:
        """Enqueue a job; answers when RabbitMQ has it on disk and has confirmed it."""
        definition = registry_of(self._tier.app).find(name)
        message = await message_of(self._tier, request, definition, choices)
        if idempotency_key is not None:
            if not idempotency_key.strip():
                raise Problem(422, "invalid-request", "the Idempotency-Key is empty")
            identity = keyed_id(self._tier.app.name, name, idempotency_key)
            message = replace(message, id=identity)
        return await enqueued(self._tier, message, derived=idempotency_key is not None)


async def message_of(
    tier: Tier, request: Request, definition: Definition, choices: Choices
) -> Message[Any]:
    """The call that a request makes.

    Raises:
        Problem: 408, 413, 415 for its body, 422 for what it asks.
        DecodeError: the body does not fit the job.
    """
    try:
        job: Job[..., Any, Any] = Job[..., Any, Any](definition).with_options(
            priority=choices.priority,
            delay=choices.delay,
            expires=choices.expires,
            headers=headers_from(choices.headers),
            tags=choices.tags,
        )
    except ConfigurationError as error:
        raise Problem(422, "invalid-options", str(error)) from error
    return message_from(job, await read_body(request, tier.settings))


async def enqueued(tier: Tier, message: Message[Any], *, derived: bool) -> Response:
    """Enqueue, and say where to look.

    Raises:
        Problem: 413, 503.
    """
    try:
        handle = await tier.app.enqueue(message)
    except (NotPermitted, PublishError, TopologyMismatch) as error:
        raise problem_of(error) from error
    return accepted(handle.id, handle.job, handle.queue, derived=derived)


def accepted(job_id: str, job: str, queue: str, *, derived: bool, status: int = 202) -> Response:
    """The answer for a job that RabbitMQ has."""
    place = f"/jobs/{job_id}"
    body = Accepted(
        id=job_id,
        job=job,
        queue=queue,
        derived=derived,
        links=Links(status=place, events=f"{place}/events"),
    )
    headers = {"Location": place, "Retry-After": RETRY_AFTER}
    return JSONResponse(body.model_dump(), status, headers=headers)


def described(definition: Definition) -> Described:
    """A job as callers see it."""
    return Described(
        name=definition.name,
        queue=definition.queue.name,
        priorities=list(definition.queue.priorities),
        description=inspect.getdoc(definition.function),
        arguments=arguments_schema(definition),
        result=result_schema(definition),
    )


def arguments_schema(definition: Definition) -> dict[str, Any]:
    """The JSON Schema of the body; ``{}``, anything, where pydantic knows none."""
    try:
        return definition.payload.json_schema()
    except PydanticUserError:
        return {}


def result_schema(definition: Definition) -> dict[str, Any] | None:
    """The JSON Schema of the result; None where it cannot become JSON."""
    try:
        # As who asks validates it: results travel by `round_trip`.
        schema: dict[str, Any] = definition.result.json_schema()
    except ConfigurationError:
        return None
    except PydanticUserError:
        return {}
    return schema
