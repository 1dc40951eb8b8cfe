"""``amqpjobs consume``: a worker. Changes when the way of starting one does."""

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Annotated

import typer

from amqpjobs.cli.app_option import AppOption, UrlOption, load_app
from amqpjobs.cli.ending import EXTRA, Deadline, flush_output, leave, stop_by_signals
from amqpjobs.cli.output import say
from amqpjobs.cli.telemetry import MetricsPortOption, Telling, telemetry
from amqpjobs.cli.telemetry import metrics_port as metrics_port_of
from amqpjobs.errors import NoRoom

if TYPE_CHECKING:
    from amqpjobs.app import App
    from amqpjobs.settings import Settings


SUPERVISOR = "AMQPJOBS_SUPERVISOR"
"""The process id of the parent of `--processes`, for its children."""


def consume(
    queues: Annotated[
        list[str] | None, typer.Argument(help="Names of queues; all of the app's if none.")
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
        bool, typer.Option("--reload", help="Start again when a Python file changes here.")
    ] = False,
    metrics_port: MetricsPortOption = None,
    url: UrlOption = None,
) -> None:
    """Consume queues and run their jobs until SIGTERM; then give back what is not done, and end."""
    loaded = load_app(
        app, url=url, concurrency=concurrency, prefetch=prefetch, metrics_port=metrics_port
    )
    settings = loaded.settings
    from amqpjobs.telemetry.logs import configure_logs

    configure_logs(settings.log_level, settings.log_format)
    if url is not None:
        # Jobs in processes of their own publish too, and know the environment only.
        os.environ["AMQPJOBS_URL"] = url
    loaded.client.runtime.registry.choose(
        queues or []
    )  # what is wrong is said once, not by every process
    if reload or processes > 1:
        from amqpjobs.cli.supervisor.supervisor import Supervisor, child_command

        command = child_command(queues or [], app, concurrency, prefetch)
        environment = {SUPERVISOR: str(os.getpid())}
        if settings.url_is_given:  # on the command line, or in a secret file
            environment["AMQPJOBS_URL"] = settings.url.get_secret_value()
        port = metrics_port_of(settings, os.environ)
        supervisor = Supervisor(
            command, processes, environment, settings, reload=reload, metrics_port=port
        )
        deadline = Deadline(supervisor.budget, last=supervisor.kill_all)
        status = supervisor.run(deadline)
        # What the app's modules have started here may hold the interpreter's exit.
        deadline.done(status, within=EXTRA)
        flush_output()
        raise typer.Exit(status)
    try:
        with telemetry(loaded) as telling:
            _work(loaded, queues or [], telling)
    finally:
        flush_output()


def _work(app: "App", queues: list[str], telling: Telling) -> None:
    from amqpjobs.worker.execution.parent_death import die_with
    from amqpjobs.worker.worker import Worker

    supervisor = os.environ.get(SUPERVISOR, "")
    if supervisor.isdigit():
        # A supervisor that was killed must not leave workers behind that nobody stops.
        die_with(int(supervisor), signal.SIGTERM)
    ended = _Ended()

    async def main() -> None:
        worker = Worker(app, queues)

        def stop() -> None:
            telling.stopped()
            worker.stop()

        deadline = stop_by_signals(stop, app.settings.shutdown_timeout)
        try:
            await worker.run()
        except NoRoom as error:
            ended.failure = error
        deadline.done()
        ended.stuck = worker.stuck

    with asyncio.Runner(loop_factory=loop_factory(app.settings)) as runner:
        runner.run(main())
        if ended.stuck:
            # A thread that does not end, or a job that ignores its cancellation, would hold
            # the interpreter's exit for as long as it likes. Everything of ours is closed.
            telling.end()
            ended.leave()
    if ended.failure is not None:
        raise ended.failure


class _Ended:
    """How a worker has ended."""

    def __init__(self) -> None:
        self.stuck = False
        self.failure: NoRoom | None = None

    def leave(self) -> None:
        if self.failure is not None:
            say(f"amqpjobs: {self.failure}")
        leave(0 if self.failure is None else 1)


def loop_factory(settings: "Settings") -> "type[asyncio.AbstractEventLoop] | None":
    """The event loop that the settings ask for."""
    if settings.loop == "asyncio":
        return None
    try:
        import uvloop
    except ImportError:
        if settings.loop == "uvloop":
            from amqpjobs.errors import ConfigurationError

            raise ConfigurationError(
                "AMQPJOBS_LOOP=uvloop, but it is not installed: pip install 'amqpjobs[uvloop]'"
            ) from None
        return None
    return uvloop.Loop
