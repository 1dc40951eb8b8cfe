"""``amqpjobs run`` and ``amqpjobs enqueue``: one job, here or by a worker.

Changes when a person can say something new about one job.
"""

import asyncio
import logging
import os
import sys
import traceback
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from amqpjobs.cli.consume import loop_factory
from amqpjobs.cli.ending import stop_by_signals
from amqpjobs.cli.loading import AppOption, JsonOption, UrlOption, load_app
from amqpjobs.cli.output import print_json, say
from amqpjobs.cli.telemetry import Telling, telemetry
from amqpjobs.errors import ConfigurationError, DecodeError
from amqpjobs.jsontext import harmless

if TYPE_CHECKING:
    from amqpjobs.app import App
    from amqpjobs.definition import Definition
    from amqpjobs.message import JobHandle, Message

INTERRUPTED = 130

JobArgument = Annotated[str, typer.Argument(help="The job's name.", show_default=False)]
ArgsOption = Annotated[
    str,
    typer.Option(
        "--args",
        "-a",
        help="Its arguments as JSON, as in a message: the value of its only parameter, or an "
        "object of several. '-' reads standard input.",
    ),
]


def run(
    job: JobArgument, args: ArgsOption = "{}", app: AppOption = None, url: UrlOption = None
) -> None:
    """Run one job here, now, and end with its status: 0 done, 1 failed. Prints its result."""
    loaded = load_app(app, url=url)
    definition = loaded.find(job)
    body = _body(args)
    from amqpjobs.telemetry.logs import LOG_STREAM, configure_logs

    os.environ[LOG_STREAM] = "stderr"
    configure_logs(loaded.settings.log_level, loaded.settings.log_format, stream=sys.stderr)
    # Over before anybody would have asked; and a worker beside it may have the port.
    with telemetry(loaded, serve=False) as telling:
        result = _result(loaded, definition, body, telling)
    if result is not None:
        text = definition.result.dump_json(result, indent=2).decode()
        sys.stdout.write(harmless(text) + "\n")


def _result(app: "App", definition: "Definition", body: bytes, telling: Telling) -> object:
    try:
        with asyncio.Runner(loop_factory=loop_factory(app.settings)) as runner:
            return runner.run(_run(app, definition, body, telling))
    except DecodeError as error:
        raise ConfigurationError(f"--args: {error}") from error
    except asyncio.CancelledError:
        raise typer.Exit(INTERRUPTED) from None
    except Exception as error:
        say("".join(traceback.format_exception(error)).rstrip())
        raise typer.Exit(1) from error


async def _run(app: "App", definition: "Definition", body: bytes, telling: Telling) -> object:
    from amqpjobs.worker.oneoff import run_once

    budget = app.settings.shutdown_timeout
    stopping = asyncio.Event()
    task = asyncio.ensure_future(run_once(app, definition, body, stopping))

    def stop() -> None:
        telling.stopped()
        if stopping.is_set():
            task.cancel()
            return
        stopping.set()
        # As in a worker: what is cancelled has some time left to clean up.
        asyncio.get_running_loop().call_later(budget - min(1.0, budget / 8), task.cancel)

    stop_by_signals(stop, budget, status=INTERRUPTED, leaving=False)
    return await task


def enqueue(
    job: JobArgument,
    args: ArgsOption = "{}",
    app: AppOption = None,
    priority: Annotated[
        str | None, typer.Option("--priority", help="One of the queue's priorities.")
    ] = None,
    expires: Annotated[
        float | None, typer.Option("--expires", help="Seconds after which it is not run any more.")
    ] = None,
    delay: Annotated[
        float | None, typer.Option("--delay", help="Seconds before which it is not started.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option("--at", help="A time with its zone, in place of --delay: 2027-01-31T12:00Z."),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            "--key",
            help="Makes the job's id: another call with it enqueues again, as the same job. As "
            "an Idempotency-Key over HTTP.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Enqueue one job for a worker, and print its id once RabbitMQ has confirmed it."""
    from amqpjobs.job import Job

    loaded = load_app(app, url=url)
    definition = loaded.find(job)
    level: str | int | None = int(priority) if priority and priority.isdigit() else priority
    configured = Job[..., object, object](definition).with_options(
        priority=level, expires=expires, delay=delay, at=_moment(at)
    )
    try:
        message = configured.message_of(_body(args))
    except DecodeError as error:
        raise ConfigurationError(f"--args: {error}") from error
    if key is not None:
        message = replace(message, id=_id_of(loaded, job, key))
    handle = asyncio.run(_enqueue(loaded, message))
    if as_json:
        print_json({"id": handle.id, "job": handle.job, "queue": handle.queue})
    else:
        sys.stdout.write(handle.id + "\n")


async def _enqueue(app: "App", message: "Message[object]") -> "JobHandle[object]":
    # What stands in the way is the command's one line, not a log's.
    logging.getLogger("amqpjobs").setLevel(logging.CRITICAL)
    async with app.lifespan():
        link = (await app.open_publisher()).link
        if link.wire is None and link.last_error is not None:
            # A program waits for its broker; a person at the prompt is told.
            raise link.last_error
        return await app.enqueue(message)


def _id_of(app: "App", job: str, key: str) -> str:
    from amqpjobs.ids import keyed_id

    if not key.strip():
        raise ConfigurationError("--key is empty: leave it out, or say what makes the job this one")
    return keyed_id(app.name, job, key)


def _moment(at: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(at) if at else None
    except ValueError as error:
        raise ConfigurationError(
            f"--at {at!r} is not a time of ISO 8601, such as 2027-01-31T12:00+01:00"
        ) from error


def _body(args: str) -> bytes:
    return sys.stdin.buffer.read() if args == "-" else args.encode()
