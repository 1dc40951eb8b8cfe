"""``amqpjobs signal``: sends a signal to a durable job. Changes when a signal carries more."""

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from amqpjobs.cli.app_option import AppOption, JsonOption, UrlOption, load_app
from amqpjobs.cli.output import print_json, say
from amqpjobs.errors import AmqpJobsError, ConfigurationError

if TYPE_CHECKING:
    from amqpjobs.app import App

JobIdArgument = Annotated[
    str, typer.Argument(metavar="JOB_ID", help="The job's id.", show_default=False)
]


def signal(
    job_id: JobIdArgument,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The signal's name.", show_default=False)
    ],
    value: Annotated[
        str,
        typer.Argument(metavar="[JSON]", help="Its value, as JSON; '-' reads standard input."),
    ] = "null",
    app: AppOption = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Send a signal to a durable job.

    An early signal is kept until the job waits for it. Exits with 1 if the job has ended, or has
    had a signal of this name.
    """
    from pydantic_core import from_json

    text = sys.stdin.read() if value == "-" else value
    try:
        data = from_json(text)
    except ValueError as error:
        raise ConfigurationError(f"the value is not JSON: {error}") from None
    loaded = load_app(app, url=url)
    taken = asyncio.run(_send(loaded, job_id, name, data))
    if as_json:
        print_json({"id": job_id, "signal": name, "taken": taken})
    elif taken:
        say(f"{job_id}: it has the signal {name!r}")
    else:
        say(f"{job_id}: it has ended, or has had a signal {name!r} before")
    if not taken:
        raise typer.Exit(1)


async def _send(app: "App", job_id: str, name: str, value: object) -> bool:
    try:
        taken = await app.signal(job_id, name, value)
        await send_outbox(app)
        return taken
    finally:
        await app.close()


async def send_outbox(app: "App") -> None:
    """Send the messages that a command has put into the outbox. If RabbitMQ is away, the
    housekeeping of the workers sends them later."""
    from amqpjobs.state.memory import memory_of

    try:
        await memory_of(app.client).send()
    except AmqpJobsError as error:
        say(f"amqpjobs: stored; it is sent when RabbitMQ is back: {error}")
