"""Cancels a job by its id: in the store, if there is one, and in all workers.

Changes when a cancellation is told in another way.
"""

from typing import TYPE_CHECKING

from amqpjobs.client.broadcast import broadcast
from amqpjobs.client.fleet import FOLLOWED, QUIET
from amqpjobs.errors import ConfigurationError, DecodeError, StoreUnavailable
from amqpjobs.jobs.message.cancellation import (
    BY_AN_OPERATOR,
    LONGEST_REASON,
    REMEMBERED_FOR,
    Cancellation,
    read_answer,
    request_body,
)
from amqpjobs.jobs.message.ids import check_job_id
from amqpjobs.jobs.message.properties import CANCEL_JOB
from amqpjobs.jobs.queue.topology import FLEET
from amqpjobs.state.status.cancelled import store_cancelled

if TYPE_CHECKING:
    from amqpjobs.client.client import Client


async def cancel_job(client: "Client", job_id: str, reason: str) -> Cancellation:
    """Cancel a job. See `App.cancel`."""
    why = checked(job_id, reason)
    problem: ConfigurationError | StoreUnavailable | None = None
    stored = False
    # Stored before it is told: a worker that starts in between knows of it by one of the two.
    try:
        stored = await _stored(client, job_id, why)
    except (ConfigurationError, StoreUnavailable) as error:
        problem = error
    answers = await broadcast(
        client,
        CANCEL_JOB,
        FLEET,
        within=FOLLOWED,
        quiet=QUIET,
        message_id=job_id,
        body=request_body(why),
    )
    if problem is not None:
        raise problem
    return _told(job_id, answers, stored)


def checked(job_id: object, reason: object) -> str:
    """The reason of a cancellation as it is kept.

    Raises:
        ConfigurationError: an id that is none, or a reason that is no text.
    """
    check_job_id(job_id)
    if not isinstance(reason, str):
        raise ConfigurationError(f"the reason of a cancellation is a text, not {reason!r}")
    return reason[:LONGEST_REASON] or BY_AN_OPERATOR


async def _stored(client: "Client", job_id: str, reason: str) -> bool:
    runtime = client.runtime
    now = runtime.clock.time()
    until = now + REMEMBERED_FOR
    return await store_cancelled(
        runtime.settings, runtime.registry.name, job_id, reason, now, until
    )


def _told(job_id: str, answers: list[bytes], stored: bool) -> Cancellation:
    by_found: dict[str, set[str]] = {"cancelled": set(), "running": set(), "noted": set()}
    for body in answers:
        try:
            worker, found = read_answer(body)
        except DecodeError:
            continue
        by_found.setdefault(found, set()).add(worker)
    everywhere = set[str]().union(*by_found.values())
    return Cancellation(
        job_id,
        tuple(sorted(by_found["cancelled"])),
        tuple(sorted(by_found["running"])),
        tuple(sorted(everywhere)),
        stored,
    )
