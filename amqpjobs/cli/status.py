"""``amqpjobs status``, ``record`` and ``migrate``: what is known of jobs. Changes when these do."""

import asyncio
import json
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from amqpjobs.cli.app_option import (
    AppOption,
    JsonOption,
    UrlOption,
    VerboseOption,
    format_of_log,
    load_app,
)
from amqpjobs.cli.ending import flush_output, stop_by_signals
from amqpjobs.cli.output import (
    RED,
    YELLOW,
    console,
    moment,
    print_json,
    say,
    shown,
    shown_whole,
    text_column,
)
from amqpjobs.telemetry.safe_text import printable
from amqpjobs.telemetry.terminal import has_colour, is_terminal

if TYPE_CHECKING:
    from amqpjobs.app import App
    from amqpjobs.jobs.message.status import JobStatus

StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        help="The store's URL, before AMQPJOBS_STORE_URL. A password on the command line is seen "
        "by everybody on the machine: prefer the variable.",
        show_default=False,
    ),
]

COLOURS = {"failed": RED, "expired": YELLOW, "retrying": YELLOW, "parked": YELLOW}
"""Of states that somebody should look at."""

DONE, FAILED, UNKNOWN, WAITING = 0, 1, 4, 5
"""Exit statuses of ``status``; 2, 3 and 130 are those of all commands."""


def record(
    app: AppOption = None,
    store: StoreOption = None,
    verbose: VerboseOption = False,
    url: UrlOption = None,
) -> None:
    """Record the status of jobs until SIGTERM.

    For `amqpjobs status` and `amqpjobs web`. Several may run. It records the jobs of all apps of
    the virtual host. SQLite is migrated when it is opened; for PostgreSQL run `amqpjobs migrate`
    first.
    """
    loaded = load_app(app, url=url, store_url=store, log_format=format_of_log(verbose, sys.stdout))
    from amqpjobs.telemetry.logs import configure_logs_by

    configure_logs_by(loaded.settings, buffered=True)
    try:
        asyncio.run(_record(loaded))
    finally:
        flush_output()


async def _record(app: "App") -> None:
    from amqpjobs.broker.rabbitmq.background import BackgroundTask
    from amqpjobs.state.needs import housekeeping_of
    from amqpjobs.state.status.recorder import Recorder
    from amqpjobs.telemetry.health.condition import with_what_is_beside
    from amqpjobs.telemetry.health.heartbeat import Liveness

    recorder = Recorder(app.settings)
    task = asyncio.ensure_future(recorder.run())
    housekeeping = housekeeping_of(app.client)

    def state() -> str:
        beside = housekeeping.beside if housekeeping else None
        return with_what_is_beside(recorder.condition, beside)

    liveness = BackgroundTask(Liveness(app.settings.heartbeat_file, state).run, "amqpjobs liveness")
    keeping = housekeeping and BackgroundTask(housekeeping.run, "amqpjobs housekeeping")
    deadline = stop_by_signals(task.cancel, app.settings.shutdown_timeout, leaving=False)
    try:
        await task
    except asyncio.CancelledError:
        deadline.done()
        say(f"amqpjobs: {recorder.recorded} events recorded")
    finally:
        await liveness.stop()
        if keeping:
            await keeping.stop()
            await app.close()


def migrate(
    app: AppOption = None,
    store: StoreOption = None,
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit with 1 if the store is behind.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Migrate the store of statuses, before a release that needs it."""
    loaded = load_app(app, store_url=store)
    before, after = asyncio.run(_migrate(loaded, check=check))
    needed = before != after
    if as_json:
        print_json(
            {"before": before, "after": after, "needed": needed, "done": needed and not check}
        )
    elif not needed:
        typer.echo(f"the store is up to date: version {after}")
    elif check:
        typer.echo(f"the store has version {before or 'none'}, and {after} is needed")
    else:
        typer.echo(f"migrated the store from version {before or 'none'} to {after}")
    if needed and check:
        raise typer.Exit(1)


async def _migrate(app: "App", *, check: bool) -> tuple[str | None, str]:
    from amqpjobs.state.store.engine import open_engine, store_exists

    engine = open_engine(app.settings)
    from amqpjobs.state.store.errors import errors
    from amqpjobs.state.store.metadata import HEAD
    from amqpjobs.state.store.migrate import look, migrate

    if check and not store_exists(app.settings):
        return None, HEAD  # asking makes no database
    try:
        async with errors():
            migration = await (look(engine) if check else migrate(engine))
    finally:
        await engine.dispose()
    return migration.before, migration.after


def status(
    job_id: Annotated[str, typer.Argument(metavar="JOB_ID", help="The job's id.")],
    app: AppOption = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Show each change until the job ends.")
    ] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Show the status of a job, as a recorder has written it.

    Exit status: 0 it is done, 1 it failed, expired or was cancelled, 4 nothing is known
    of it, 5 it has not ended.
    """
    loaded = load_app(app, url=url, store_url=store)
    try:
        last = asyncio.run(_status(loaded, job_id, follow=follow, as_json=as_json))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    if last is None:
        say(
            f"nothing is known of a job {printable(job_id)}: does a recorder run, with this store "
            "(`amqpjobs record`)?"
        )
        raise typer.Exit(UNKNOWN)
    if not last.ended:
        raise typer.Exit(WAITING)
    raise typer.Exit(DONE if last.state == "done" else FAILED)


async def _status(app: "App", job_id: str, *, follow: bool, as_json: bool) -> "JobStatus | None":
    try:
        if follow:
            return await _follow(app, job_id, as_json=as_json)
        found = await app.status(job_id)
        if found is not None and as_json:
            print_json(asdict(found))
        elif found is not None:
            show_status(found)
        return found
    finally:
        await app.close()


async def _follow(app: "App", job_id: str, *, as_json: bool) -> "JobStatus | None":
    last: JobStatus | None = None
    if is_terminal(sys.stdout) and not as_json:
        return await _follow_on_terminal(app, job_id)
    async for last in app.watch(job_id):
        if as_json:
            sys.stdout.write(json.dumps(asdict(last), default=str) + "\n")
        else:
            sys.stdout.write(_line(last) + "\n")
        sys.stdout.flush()
    return last


async def _follow_on_terminal(app: "App", job_id: str) -> "JobStatus | None":
    from rich.progress import BarColumn, Progress, TimeElapsedColumn

    columns = (
        text_column("{task.fields[job]}"), BarColumn(), text_column("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(), text_column("{task.description}"),
    )  # fmt: skip
    last: JobStatus | None = None
    with Progress(*columns, console=console()) as bar:
        task = bar.add_task("waiting", total=None, job=printable(job_id))
        async for last in app.watch(job_id):
            fraction = last.progress
            bar.update(
                task,
                total=None if fraction is None else 1.0,
                completed=fraction or 0.0,
                description=printable(f"{last.state}  {_words(last)}".rstrip()),
                job=printable(last.job),
            )
    if last is not None:
        show_status(last)
    return last


def show_status(found: "JobStatus") -> None:
    """Print a status, a line for each thing that is known."""
    rows: dict[str, Any] = {
        "job": found.job, "id": found.id, "queue": found.queue, "state": found.state,
        "attempt": found.attempt or None, "replayed": found.epoch or None,
        "tags": ", ".join(found.tags) or None,
        "progress": None if found.progress is None else f"{found.progress:.0%}",
        "detail": found.detail or None, "reason": found.reason, "error": found.error,
        "answered": found.answered or None, "worker": found.worker,
        "queued": moment(found.queued_at), "started": moment(found.started_at),
        "due": moment(found.due_at), "ended": moment(found.ended_at),
        "result": json.dumps(found.result, ensure_ascii=False) if found.has_result else None,
    }  # fmt: skip
    colour = COLOURS.get(found.state) if has_colour(sys.stdout) else None
    for name, value in rows.items():
        if value is not None:
            text = f"{name:9} {shown_whole(value)}"
            typer.echo(typer.style(text, fg=colour) if name == "state" and colour else text)


def _line(found: "JobStatus") -> str:
    at = moment(found.updated_at)
    attempt = f" attempt {found.attempt}" if found.attempt else ""
    progress = "" if found.progress is None else f" {found.progress:.0%}"
    return printable(f"{at} {found.state}{attempt}{progress} {_words(found)}".rstrip())


def _words(found: "JobStatus") -> str:
    if found.error:
        return found.error
    if found.due_at is not None and found.due_at > time.time():
        return f"due {shown(moment(found.due_at))}"
    return found.detail
