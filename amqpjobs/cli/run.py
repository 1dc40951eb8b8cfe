"""``amqpjobs run`` and ``amqpjobs enqueue``: one job, here or by a worker.

Changes when a person can say something new about one job.
"""

import asyncio
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic_core import PydanticSerializationError

from amqpjobs.cli.app_option import (
    AppOption,
    JsonOption,
    UrlOption,
    VerboseOption,
    format_of_log,
    load_app,
)
from amqpjobs.cli.consume import loop_factory
from amqpjobs.cli.duration_option import duration_option
from amqpjobs.cli.ending import stop_by_signals
from amqpjobs.cli.output import print_json, say
from amqpjobs.cli.telemetry import Telling, telemetry
from amqpjobs.client.client import registry_of
from amqpjobs.errors import AmqpJobsError, ConfigurationError, DecodeError, InvalidResult
from amqpjobs.jobs.job import message_from
from amqpjobs.telemetry.safe_text import harmless
from amqpjobs.telemetry.tracebacks import short_traceback, whole_traceback

if TYPE_CHECKING:
    from amqpjobs.app import App
    from amqpjobs.jobs.definition import Definition
    from amqpjobs.jobs.message.handle import JobHandle
    from amqpjobs.jobs.message.message import Message

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
    job: JobArgument,
    args: ArgsOption = "{}",
    app: AppOption = None,
    verbose: VerboseOption = False,
    url: UrlOption = None,
) -> None:
    """Run one job here, now, and print its result.

    Exit status: 0 it is done, 1 it failed.
    """
    loaded = load_app(app, url=url, log_format=format_of_log(verbose, sys.stderr))
    definition = registry_of(loaded).find(job)
    body = _body(args)
    from amqpjobs.telemetry.logs import LOG_STREAM, configure_logs_by

    os.environ[LOG_STREAM] = "stderr"
    configure_logs_by(loaded.settings, stream=sys.stderr)
    # Over before anybody would have asked; and a worker beside it may have the port.
    with telemetry(loaded, serve=False) as telling:
        shown = whole_traceback if verbose else short_traceback
        result = _result(loaded, definition, body, telling, shown)
    if result is not None:
        try:
            text = definition.result.dump_json(result, indent=2).decode()
        except (PydanticSerializationError, ValueError) as error:
            raise InvalidResult(f"the result of {job!r} cannot become JSON: {error}") from error
        sys.stdout.write(harmless(text) + "\n")


def _result(
    app: "App",
    definition: "Definition",
    body: bytes,
    telling: Telling,
    shown: Callable[[BaseException], str],
) -> object:
    try:
        with asyncio.Runner(loop_factory=loop_factory(app.settings)) as runner:
            return runner.run(_run(app, definition, body, telling))
    except DecodeError as error:
        raise ConfigurationError(f"--args: {error}") from error
    except asyncio.CancelledError:
        raise typer.Exit(INTERRUPTED) from None
    except Exception as error:
        say(shown(error).rstrip())
        raise typer.Exit(1) from error


async def _run(app: "App", definition: "Definition", body: bytes, telling: Telling) -> object:
    from amqpjobs.worker.oneoff import run_once

    budget = app.settings.shutdown_timeout
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    end: float | None = None

    def left() -> float:
        return budget if end is None else end - loop.time()

    task = asyncio.ensure_future(run_once(app.client.runtime, definition, body, stopping, left))

    def stop() -> None:
        nonlocal end
        telling.stopped()
        if stopping.is_set():
            task.cancel()
            return
        stopping.set()
        end = loop.time() + budget
        # As in a worker: what is cancelled has some time left to clean up.
        loop.call_later(budget - min(1.0, budget / 8), task.cancel)

    stop_by_signals(stop, budget, status=INTERRUPTED, leaving=False)
    try:
        return await task
    finally:
        if app.client.memory is not None:
            await app.close()  # what it has sent with a transaction is sent before the process ends


def enqueue(
    job: JobArgument,
    args: ArgsOption = "{}",
    app: AppOption = None,
    priority: Annotated[
        str | None, typer.Option("--priority", help="One of the queue's priorities.")
    ] = None,
    expires: Annotated[
        float | None, duration_option("--expires", "After which it is no longer started.")
    ] = None,
    delay: Annotated[
        float | None, duration_option("--delay", "How long to wait before it is started.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            "--at", help="A time with a time zone, instead of --delay: 2027-01-31T12:00Z."
        ),
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
    header: Annotated[
        list[str] | None,
        typer.Option(
            "--header",
            metavar="NAME=VALUE",
            help="A header of the message, for ctx.headers; may be given several times.",
            show_default=False,
        ),
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(
            "--tag",
            help="A word for people, for ctx.tags; may be given several times.",
            show_default=False,
        ),
    ] = None,
    queue: Annotated[
        str | None,
        typer.Option("--queue", help="Another queue of the app.", show_default=False),
    ] = None,
    job_id: Annotated[
        str | None, typer.Option("--id", help="The job's id, as it is.", show_default=False)
    ] = None,
    run_timeout: Annotated[
        float | None, duration_option("--run-timeout", "How long one run may take.")
    ] = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Enqueue one job for a worker, and print its id.

    The id is printed once RabbitMQ has confirmed the job.
    """
    from amqpjobs.jobs.job import Job
    from amqpjobs.jobs.message.own_headers import headers_from

    loaded = load_app(app, url=url)
    definition = registry_of(loaded).find(job)
    level: str | int | None = int(priority) if priority and priority.isdigit() else priority
    configured = Job[..., object, object](definition).with_options(
        priority=level, expires=expires, delay=delay, at=_moment(at),
        headers=headers_from(header or ()), tags=tag, queue=queue, id=job_id,
        run_timeout=run_timeout,
    )  # fmt: skip
    try:
        message = message_from(configured, _body(args))
    except DecodeError as error:
        raise ConfigurationError(f"--args: {error}") from error
    if key is not None:
        if job_id is not None:
            raise ConfigurationError("--key makes the id, and --id is one: give one of the two")
        message = replace(message, id=_id_of(loaded, job, key))
    try:
        handle = asyncio.run(_enqueue(loaded, message))
    except AmqpJobsError:
        raise
    except Exception as error:
        raise AmqpJobsError(
            f"code of the app has failed: {type(error).__name__}: {error} (--debug shows where)"
        ) from error
    if as_json:
        print_json({"id": handle.id, "job": handle.job, "queue": handle.queue})
    else:
        sys.stdout.write(handle.id + "\n")


async def _enqueue(app: "App", message: "Message[object]") -> "JobHandle[object]":
    # What stands in the way is the command's one line, not a log's.
    logging.getLogger("amqpjobs").setLevel(logging.CRITICAL)
    async with app.lifespan():
        link = (await app.client.publisher()).link
        if link.wire is None and link.last_error is not None:
            # A program waits for its broker; a person at the prompt is told.
            raise link.last_error
        return await app.enqueue(message)


def _id_of(app: "App", job: str, key: str) -> str:
    from amqpjobs.jobs.message.ids import keyed_id

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
