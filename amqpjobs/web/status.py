"""What is known of jobs, over HTTP: one, or the newest. Changes when another question is asked."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Path, Query

from amqpjobs.errors import ConfigurationError, StoreUnavailable
from amqpjobs.jobs.message.events import STATES
from amqpjobs.state.status.values import JobStatus
from amqpjobs.web.problems import RETRY_AFTER, Problem, problems
from amqpjobs.web.tier import Tier

LONGEST_LIST = 1000

JobId = Annotated[str, Path(max_length=255, description="As `POST /jobs/{name}` has told it.")]


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
            found = await self._tier.app.statuses.recent(
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


def unknown_id() -> Problem:
    """The answer for an id that nobody has told of."""
    return Problem(
        404,
        "unknown-id",
        "nothing is known of this job: not told yet, forgotten by now, or never there",
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
