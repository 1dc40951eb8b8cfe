"""``amqpjobs consume``: a worker. Changes when the way of starting one does."""

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from amqpjobs.cli.app_option import AppOption, UrlOption, VerboseOption, format_of_log, load_app
from amqpjobs.cli.duration_option import duration_option
from amqpjobs.cli.ending import EXTRA, RECYCLED, Deadline, flush_output, leave, stop_by_signals
from amqpjobs.cli.output import say
from amqpjobs.cli.size_option import size_option
from amqpjobs.cli.telemetry import MetricsPortOption, Telling, telemetry
from amqpjobs.cli.telemetry import metrics_port as metrics_port_of
from amqpjobs.errors import ConfigurationError, NoRoom

if TYPE_CHECKING:
    from amqpjobs.app import App
    from amqpjobs.settings import Settings


SUPERVISOR = "AMQPJOBS_SUPERVISOR"
"""The process id of the parent of `--processes`, for its children."""


def consume(
    queues: Annotated[
        list[str] | None, typer.Argument(help="Names of queues; default: all queues of the app.")
    ] = None,
    app: AppOption = None,
    concurrency: Annotated[
        int | None,
        typer.Option("--concurrency", "-c", min=1, help="Jobs at once in each process."),
    ] = None,
    prefetch: Annotated[
        int | None,
        typer.Option("--prefetch", min=1, help="Deliveries held of each queue in each process."),
    ] = None,
    processes: Annotated[
        int, typer.Option("--processes", "-p", min=1, help="Worker processes.")
    ] = 1,
    reload: Annotated[
        bool, typer.Option("--reload", help="Restart when a Python file changes in this folder.")
    ] = False,
    wait: Annotated[
        float | None,
        duration_option("--wait", "How long to wait for RabbitMQ at the start; default: 0."),
    ] = None,
    until_empty: Annotated[
        bool,
        typer.Option("--until-empty", help="End when the queues are empty and all jobs are done."),
    ] = False,
    max_jobs: Annotated[
        int | None,
        typer.Option("--max-jobs", min=1, help="End after so many jobs, up to a tenth fewer."),
    ] = None,
    max_memory: Annotated[
        int | None, size_option("--max-memory", "End when the process uses more: 512MiB, 1GiB.")
    ] = None,
    max_age: Annotated[
        float | None,
        duration_option("--max-age", "End after this time, or up to a tenth less.", least=1.0),
    ] = None,
    metrics_port: MetricsPortOption = None,
    verbose: VerboseOption = False,
    url: UrlOption = None,
) -> None:
    """Consume queues and run their jobs until SIGTERM.

    It then requeues unfinished jobs, and ends. With --max-jobs, --max-memory or --max-age it lets
    running jobs end first; with --processes another process takes its place.
    """
    if until_empty and reload:
        raise ConfigurationError("--until-empty ends, --reload starts again: give one of the two")
    loaded = load_app(
        app,
        url=url,
        listens=True,
        concurrency=concurrency,
        prefetch=prefetch,
        wait=wait,
        max_jobs=max_jobs,
        max_memory=max_memory,
        max_age=max_age,
        metrics_port=metrics_port,
        log_format=format_of_log(verbose, sys.stdout),
    )
    settings = loaded.settings
    from amqpjobs.telemetry.logs import configure_logs_by

    configure_logs_by(settings, buffered=True)
    if url is not None:
        # Jobs in processes of their own publish too, and know the environment only.
        os.environ["AMQPJOBS_URL"] = url
    loaded.client.runtime.registry.choose(
        queues or []
    )  # what is wrong is said once, not by every process
    if reload or processes > 1:
        from amqpjobs.cli.supervisor.supervisor import child_command

        limits = {"max-jobs": max_jobs, "max-memory": max_memory, "max-age": max_age}
        options = {"app": app, "concurrency": concurrency, "prefetch": prefetch, **limits}
        command = child_command(queues or [], options, until_empty=until_empty)
        _supervise(command, processes, settings, reload=reload, until_empty=until_empty)
    try:
        with telemetry(loaded) as telling:
            _work(loaded, queues or [], telling, until_empty=until_empty)
    finally:
        flush_output()


def _supervise(
    command: list[str], processes: int, settings: "Settings", *, reload: bool, until_empty: bool
) -> NoReturn:
    from amqpjobs.cli.supervisor.supervisor import Supervisor

    environment = {
        SUPERVISOR: str(os.getpid()),
        "AMQPJOBS_WAIT": f"{settings.wait:g}",
        "AMQPJOBS_LOG_FORMAT": settings.log_format,
    }
    if settings.url_is_given:  # on the command line, or in a secret file
        environment["AMQPJOBS_URL"] = settings.url.get_secret_value()
    port = metrics_port_of(settings, os.environ)
    supervisor = Supervisor(
        command,
        processes,
        environment,
        settings,
        reload=reload,
        until_empty=until_empty,
        metrics_port=port,
    )
    deadline = Deadline(supervisor.budget, last=supervisor.kill_all)
    status = supervisor.run(deadline)
    # What the app's modules have started here may hold the interpreter's exit.
    deadline.done(status, within=EXTRA)
    flush_output()
    raise typer.Exit(status)


def _work(app: "App", queues: list[str], telling: Telling, *, until_empty: bool) -> None:
    from amqpjobs.worker.execution.parent_death import die_with
    from amqpjobs.worker.worker import Worker

    supervisor = os.environ.get(SUPERVISOR, "")
    if supervisor.isdigit():
        # A supervisor that was killed must not leave workers behind that nobody stops.
        die_with(int(supervisor), signal.SIGTERM)
    ended = _Ended()

    async def main() -> None:
        worker = Worker(app, queues, until_empty=until_empty)

        def stop() -> None:
            telling.stopped()
            worker.stop()

        deadline = stop_by_signals(stop, app.settings.shutdown_timeout)
        try:
            await worker.run()
        except NoRoom as error:
            ended.failure = error
        ended.stuck, ended.recycled = worker.stuck, worker.recycled is not None
        deadline.arm()  # one that ends by itself must not hang at its exit either
        deadline.done(ended.status)

    with asyncio.Runner(loop_factory=loop_factory(app.settings)) as runner:
        runner.run(main())
        if ended.stuck:
            # A thread that does not end, or a job that ignores its cancellation, would hold
            # the interpreter's exit for as long as it likes. Everything of ours is closed.
            telling.end()
            ended.leave()
    if ended.failure is not None:
        raise ended.failure
    if ended.status:
        raise typer.Exit(ended.status)


class _Ended:
    """How a worker has ended."""

    def __init__(self) -> None:
        self.stuck = self.recycled = False
        self.failure: NoRoom | None = None

    @property
    def status(self) -> int:
        """The exit status. Only a supervisor of ours is told of another process to start: whatever
        else restarts workers would take any status but 0 for a failure."""
        if self.failure is not None:
            return 1
        return RECYCLED if self.recycled and SUPERVISOR in os.environ else 0

    def leave(self) -> None:
        if self.failure is not None:
            say(f"amqpjobs: {self.failure}")
        leave(self.status)


def loop_factory(settings: "Settings") -> "type[asyncio.AbstractEventLoop] | None":
    """The event loop that the settings ask for."""
    if settings.loop == "asyncio":
        return None
    try:
        import uvloop
    except ImportError:
        if settings.loop == "uvloop":
            from amqpjobs.errors import ConfigurationError
            from amqpjobs.jobs.hints import install

            raise ConfigurationError(
                f"AMQPJOBS_LOOP=uvloop, but it is not installed: {install('amqpjobs[uvloop]')}"
            ) from None
        return None
    return uvloop.Loop
