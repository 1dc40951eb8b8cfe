"""The status of jobs over HTTP: one, or the newest. Changes when another question is asked."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from amqpjobs.errors import (
    BrokerUnavailable,
    ConfigurationError,
    NotPermitted,
    PublishError,
    StoreUnavailable,
)
from amqpjobs.jobs.message.cancellation import Cancellation
from amqpjobs.jobs.message.carried import LONGEST_ID
from amqpjobs.jobs.message.events import STATES
from amqpjobs.jobs.message.status import JobStatus
from amqpjobs.state.status.reader import statuses_of
from amqpjobs.web.problems import RETRY_AFTER, Problem, problem_of, problems
from amqpjobs.web.tier import Tier

LONGEST_LIST = 1000


JobId = Annotated[
    str, Path(max_length=255, description="The `id` that `POST /jobs/{name}` returned.")
]


def of_a_message(job_id: str) -> str:
    """Check that a message can have this id.

    Raises:
        PydanticCustomError: it cannot.
    """
    if len(job_id.encode()) > LONGEST_ID or "\0" in job_id:
        raise PydanticCustomError("id", f"not a text of 1 to {LONGEST_ID} bytes")
    return job_id


class Status:
    """The routes.

    Args:
        tier: what the routes share.
    """

    def __init__(self, tier: Tier) -> None:
        self._tier = tier

    def add_to(self, router: APIRouter) -> None:
        """Add the routes."""
        router.add_api_route(
            "/jobs", self.recent, summary="The newest jobs", responses=problems(401, 403, 422, 503)
        )
        router.add_api_route(
            "/jobs/{id}",
            self.status,
            summary="What is known of a job",
            responses=problems(401, 403, 404, 422, 503),
        )
        router.add_api_route(
            "/jobs/{id}",
            self.cancel,
            methods=["DELETE"],
            status_code=202,
            summary="Cancel a job",
            responses=problems(401, 403, 422, 503),
        )

    async def recent(
        self,
        state: Annotated[
            list[str] | None, Query(description="Only in this state; may be given several times.")
        ] = None,
        queue: Annotated[str | None, Query(max_length=255)] = None,
        job: Annotated[str | None, Query(max_length=255)] = None,
        before: Annotated[
            int | None,
            Query(ge=0, le=2**63 - 1, description="Only older than this `sequence`."),
        ] = None,
        limit: Annotated[int, Query(ge=1, le=LONGEST_LIST)] = 50,
    ) -> list[JobStatus]:
        """The jobs that something happened to lately, newest first; without their results."""
        unknown = sorted(set(state or ()) - set(STATES))
        if unknown:
            raise Problem(422, "invalid-request", f"a state is one of {', '.join(STATES)}")
        with store_errors():
            found = await statuses_of(self._tier.app.client).recent(
                states=state or (), queue=queue, job=job, before=before, limit=limit
            )
        return [replace(each, result=None) for each in found]

    async def status(self, id: JobId) -> JobStatus:  # noqa: A002 - as it is called in the path
        """The state of a job, how far it is, and its result if that is kept."""
        with store_errors():
            found = await self._tier.app.status(id)
        if found is None:
            raise unknown_id()
        return found

    async def cancel(
        self,
        id: Annotated[JobId, AfterValidator(of_a_message)],  # noqa: A002 - as in the path
        reason: Annotated[str, Query(max_length=200, description="For its status.")] = "",
        undo: Annotated[
            bool, Query(description="For a durable job: undo the steps that it has done.")
        ] = False,
    ) -> Cancellation:
        """It does not start any more; a run of it ends if the job is cancellable. Which workers
        know of it."""
        with store_errors():
            try:
                return await self._tier.app.cancel(id, reason=reason, undo=undo)
            except (BrokerUnavailable, NotPermitted, PublishError) as error:
                raise problem_of(error) from error


def unknown_id() -> Problem:
    """The answer for an id that nobody has told of."""
    return Problem(
        404,
        "unknown-id",
        "unknown job: not recorded yet, already pruned, or never enqueued",
    )


@contextmanager
def store_errors() -> Iterator[None]:
    """What becomes of the errors of the store.

    Raises:
        Problem: 503.
    """
    try:
        yield
    except StoreUnavailable as error:
        # Its words name the database's address: they are for the log.
        raise Problem(
            503,
            "store-away",
            "the store of statuses cannot be reached from here",
            {"Retry-After": RETRY_AFTER},
        ) from error
    except ConfigurationError as error:
        raise Problem(503, "no-store", str(error), {"Retry-After": "60"}) from error
