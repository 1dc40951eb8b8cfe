"""The message of a schedule: kept without what belongs to one time, and made whole at each.

Changes when the message of a job that a schedule sends does.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from amqpjobs.client.prepared import Prepared
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.message.header_info import JobHeaders
from amqpjobs.jobs.message.headers import (
    for_copy,
    read_leniently,
    tick_header,
    token_header,
    write,
)
from amqpjobs.jobs.message.ids import derived_id
from amqpjobs.jobs.message.message import Message, Pipeline
from amqpjobs.jobs.message.tick import How, Tick
from amqpjobs.jobs.message.trace_context import carried

if TYPE_CHECKING:
    from amqpjobs.client.client import Client

OWN_ID = "{job id}"
"""In a header of a template: the id of the job. Another job system may want it in a header, too."""


async def template_for(client: "Client", message: Message[object]) -> Prepared:
    """A call as a schedule keeps it, through the app's publishing middleware.

    Raises:
        MessageTooLarge, ConfigurationError: it cannot be sent, or has an option that a schedule
            decides.
        Exception: what middleware raises.
    """
    check_options(message)
    _, prepared = await client.preparing.prepare(message)
    return template_of(message, prepared)


def template_now(client: "Client", message: Message[object]) -> Prepared:
    """The same in synchronous code.

    Raises:
        MessageTooLarge, ConfigurationError: as above; or middleware waits for something.
    """
    check_options(message)
    _, prepared = client.preparing.prepare_now(message)
    return template_of(message, prepared)


def check_options(message: Message[object]) -> None:
    """See that a call leaves to the schedule what the schedule decides.

    Raises:
        ConfigurationError: it does not.
    """
    if not isinstance(message, Message):
        raise ConfigurationError(
            f"a schedule sends a message, such as job.message(7), not {message!r}"
        )
    if isinstance(message, Pipeline):
        raise ConfigurationError(
            "a schedule sends a job, and this is a pipeline: let it send a durable job that calls "
            'it, await ctx.call("name", pipeline)'
        )
    options = message.options
    for name in ("delay", "at", "id"):
        if getattr(options, name) is not None:
            raise ConfigurationError(
                f"{message.job}: a schedule says when its job is sent, and with which id: leave "
                f"{name}= out"
            )


def template_of(message: Message[object], prepared: Prepared | None) -> Prepared:
    """A message without what belongs to one publish.

    Raises:
        ConfigurationError: middleware keeps it back.
    """
    if prepared is None:
        raise ConfigurationError(
            f"{message.job}: a publishing middleware keeps its message back, so it has no schedule"
        )
    properties = prepared.properties
    trace = carried(properties.headers)  # of who has put it, not of what is sent each time
    headers = {
        name: OWN_ID if value == properties.message_id else value
        for name, value in properties.headers.items()
        if name not in trace
    }
    # A deadline is so long after the time at which the message was made.
    made = properties.timestamp if read_leniently(headers).deadline is not None else None
    kept = properties._replace(headers=headers, message_id=None, timestamp=made)
    return replace(prepared, job_id="", properties=kept, due=None)


def job_id_of(app: str, schedule: str, due: float, how: How) -> str:
    """The id of the job of a time of a schedule: the same in every process. What is sent for a time
    that has passed is the job of that time; what a person wants now is a job of its own."""
    own = (how,) if how == "run_now" else ()
    return derived_id("schedule", app, schedule, str(round(due)), *own)


def message_for(template: Prepared, app: str, tick: Tick, now: float, at: float) -> Prepared:
    """The message of one tick.

    Args:
        template: of its schedule.
        app: the name of the app.
        tick: which.
        now: seconds since the epoch.
        at: when it is to be started, in seconds since the epoch.
    """
    properties = template.properties
    said = read_leniently(properties.headers)
    due = at if at > now else None
    deadline = None
    if said.deadline is not None:
        made = said.deadline if properties.timestamp is None else properties.timestamp
        deadline = (due or now) + said.deadline - made
    job_id = job_id_of(app, tick.schedule, tick.due, tick.how)
    own = {n: job_id if value == OWN_ID else value for n, value in properties.headers.items()}
    headers = for_copy(own) | token_header() | tick_header(tick)
    headers |= write(JobHeaders(deadline=deadline, due=due))
    sent = properties._replace(headers=headers, message_id=job_id, timestamp=int(now))
    return replace(template, job_id=job_id, properties=sent, due=due)
