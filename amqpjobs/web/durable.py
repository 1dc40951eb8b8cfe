"""The HTTP routes of durable jobs: signals, steps, undo, replays.

Changes when the HTTP API of durable jobs does.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from pydantic import AfterValidator, BaseModel
from pydantic_core import from_json

from amqpjobs.client.deadletters.selection import Selection
from amqpjobs.errors import ConfigurationError, InvalidArguments, NotPermitted
from amqpjobs.jobs.durable.status import DurableStatus
from amqpjobs.jobs.message.family import LONGEST_NAME
from amqpjobs.jobs.message.why import Why
from amqpjobs.web.bodies import read_body
from amqpjobs.web.problems import Problem, problem_of, problems
from amqpjobs.web.status import JobId, of_a_message, store_errors, unknown_id
from amqpjobs.web.tier import Tier

OwnJobId = Annotated[JobId, AfterValidator(of_a_message)]

SIGNAL_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The value of the signal; null for a signal without a value.",
        "content": {"application/json": {"schema": {}}},
    }
}


class Taken(BaseModel):
    """A signal that is stored."""

    id: str
    signal: str


class Undone(BaseModel):
    """A job that is being undone, or is undone."""

    id: str
    state: str


class Replayed(BaseModel):
    """A job that was requeued."""

    id: str
    queues: list[str]


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
            "/jobs/{id}/steps",
            self.steps,
            summary="The steps of a durable job",
            responses=problems(401, 403, 404, 422, 503),
        )
        router.add_api_route(
            "/jobs/{id}/why",
            self.why,
            summary="Why a job does not run",
            responses=problems(401, 403, 422),
        )
        router.add_api_route(
            "/jobs/{id}/undo",
            self.undo,
            methods=["POST"],
            status_code=202,
            summary="Undo a durable job that has ended",
            responses=problems(401, 403, 404, 409, 422, 503),
        )

        router.add_api_route(
            "/jobs/{id}/replay",
            self.replay,
            methods=["POST"],
            status_code=202,
            summary="Replay the dead letter of a job",
            responses=problems(401, 403, 404, 422, 503),
        )

    async def replay(
        self,
        id: OwnJobId,  # noqa: A002 - as in the path
        from_: Annotated[
            str | None,
            Query(
                alias="from",
                max_length=LONGEST_NAME,
                description="For a durable job: run this step and later ones again.",
            ),
        ] = None,
        restart: Annotated[
            bool, Query(description="For a durable job: run all steps again.")
        ] = False,
    ) -> Replayed:
        """Requeue the dead letter. A durable job resumes where it failed."""
        letters, which = self._tier.app.dead_letters(), Selection((id,))
        try:
            found = await letters.look(which, bodies=False)
            if all(letter.id != id for letter in found.letters):
                raise Problem(404, "unknown-id", "no dead letter has this id")
            moved = await letters.replay(which, from_step=from_, restart=restart)
        except NotPermitted as error:
            raise problem_of(error) from error
        except ConfigurationError as error:
            raise Problem(422, "invalid-options", str(error)) from error
        if not moved.done:
            raise Problem(
                503, "not-replayed", "RabbitMQ did not confirm the message; the dead letter stays"
            )
        return Replayed(id=id, queues=sorted(moved.targets))

    async def steps(self, id: OwnJobId) -> DurableStatus:  # noqa: A002 - as in the path
        """The job and its steps, in the order in which they began. Results are shortened to 200
        characters."""
        with store_errors():
            found = await self._tier.app.durable_status(id)
        if found is None:
            raise unknown_id()
        return found

    async def why(self, id: OwnJobId) -> Why:  # noqa: A002 - as in the path
        """Why a job does not run: one sentence, and the facts behind it. It works for every job,
        durable or not. An unknown job has the reason `unknown`. `unseen` lists the sources that
        could not be read."""
        return await self._tier.app.why(id)

    async def undo(self, id: OwnJobId) -> Undone:  # noqa: A002 - as in the path
        """Undo the steps of the job. If its undo failed before, the failed undo jobs are sent
        again. 409 if the job runs or waits, or if no step of it can be undone."""
        with store_errors():
            state = await self._tier.app.undo(id)
        if state is None:
            raise unknown_id()
        if state not in ("undoing", "undone"):
            raise Problem(409, "not-undone", f"the job is {state} and cannot be undone")
        return Undone(id=id, state=state)

    async def signal(
        self,
        id: OwnJobId,  # noqa: A002 - as it is called in the path
        name: Annotated[str, Path(max_length=LONGEST_NAME, description="The signal's name.")],
        request: Request,
    ) -> Taken:
        """Store a signal for a durable job. An early signal is kept until the job waits for it. 409
        if the job has ended, or has had a signal of this name."""
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
