"""Durable jobs over HTTP: signals, undoing. Changes when one can be operated in another way."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from pydantic import AfterValidator, BaseModel
from pydantic_core import from_json

from amqpjobs.errors import InvalidArguments
from amqpjobs.jobs.message.family import LONGEST_NAME
from amqpjobs.web.bodies import read_body
from amqpjobs.web.problems import Problem, problems
from amqpjobs.web.status import JobId, of_a_message, store_errors, unknown_id
from amqpjobs.web.tier import Tier

OwnJobId = Annotated[JobId, AfterValidator(of_a_message)]

SIGNAL_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The value of the signal; null where it has none.",
        "content": {"application/json": {"schema": {}}},
    }
}


class Taken(BaseModel):
    """A signal that is stored."""

    id: str
    signal: str


class Undone(BaseModel):
    """A job that is being undone, or is."""

    id: str
    state: str


class Durable:
    """The routes.

    Args:
        tier: what the routes share.
    """

    def __init__(self, tier: Tier) -> None:
        self._tier = tier

    def add_to(self, router: APIRouter) -> None:
        """Add the routes."""
        router.add_api_route(
            "/jobs/{id}/signals/{name}",
            self.signal,
            methods=["POST"],
            status_code=202,
            summary="Send a signal to a durable job",
            responses=problems(401, 403, 408, 409, 413, 415, 422, 503),
            openapi_extra=SIGNAL_BODY,
        )

        router.add_api_route(
            "/jobs/{id}/undo",
            self.undo,
            methods=["POST"],
            status_code=202,
            summary="Undo a durable job that has ended",
            responses=problems(401, 403, 404, 409, 422, 503),
        )

    async def undo(self, id: OwnJobId) -> Undone:  # noqa: A002 - as in the path
        """Take back what it has done, or try again what could not be taken back. 409 if it runs, or
        nothing of it can be undone."""
        with store_errors():
            state = await self._tier.app.undo(id)
        if state is None:
            raise unknown_id()
        if state not in ("undoing", "undone"):
            raise Problem(409, "not-undone", f"the job is {state}, and is not undone")
        return Undone(id=id, state=state)

    async def signal(
        self,
        id: OwnJobId,  # noqa: A002 - as it is called in the path
        name: Annotated[str, Path(max_length=LONGEST_NAME, description="The signal's name.")],
        request: Request,
    ) -> Taken:
        """Store a signal for a durable job, which waits for it or will. 409 if the job does not
        take it: it has ended, or has had a signal of this name."""
        body = await read_body(request, self._tier.settings)
        try:
            value = from_json(body)
        except ValueError:
            raise Problem(422, "invalid-arguments", "the body is not JSON") from None
        with store_errors():
            try:
                taken = await self._tier.app.signal(id, name, value)
            except InvalidArguments as error:
                raise Problem(413, "too-large", str(error)) from error
        if not taken:
            words = "the job has ended, or has had a signal of this name"
            raise Problem(409, "not-taken", words)
        return Taken(id=id, signal=name)
