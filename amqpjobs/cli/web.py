"""``amqpjobs web``: the web tier. Changes when the way of starting one does."""

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from amqpjobs.cli.app_option import (
    AppOption,
    UrlOption,
    VerboseOption,
    format_of_log,
    load_app,
    load_object,
)
from amqpjobs.cli.consume import loop_factory
from amqpjobs.cli.ending import flush_output, stop_by_signals
from amqpjobs.cli.telemetry import MetricsPortOption, Telling, telemetry
from amqpjobs.errors import ConfigurationError

if TYPE_CHECKING:
    from amqpjobs.app import App
    from amqpjobs.web.server import Listening


def web(
    app: AppOption = None,
    host: Annotated[
        str | None,
        typer.Option(
            "--host",
            help="Where to listen, 127.0.0.1 unless AMQPJOBS_WEB_HOST says so; beyond loopback "
            "only with AMQPJOBS_WEB_TOKEN.",
            show_default=False,
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            min=0,
            max=65535,
            help="8000 unless AMQPJOBS_WEB_PORT says so; 0 for one that is free.",
            show_default=False,
        ),
    ] = None,
    asgi: Annotated[
        str | None,
        typer.Option(
            "--asgi",
            envvar="AMQPJOBS_ASGI",
            help="Your own ASGI application, package.module:api, served beside the API's paths.",
            show_default=False,
        ),
    ] = None,
    recorder: Annotated[
        bool,
        typer.Option(
            "--recorder/--no-recorder", help="Record the status of jobs in this process too."
        ),
    ] = True,
    metrics_port: MetricsPortOption = None,
    verbose: VerboseOption = False,
    url: UrlOption = None,
) -> None:
    """Serve jobs over HTTP until SIGTERM.

    To enqueue, request and watch jobs, for webhooks, and for probes. The API is under /jobs,
    /queues, /hooks, /healthz and /readyz; /jobs/docs describes it.
    """
    loaded = load_app(
        app, url=url, listens=True, web_host=host, web_port=port, metrics_port=metrics_port,
        log_format=format_of_log(verbose, sys.stdout),
    )  # fmt: skip
    # Here, so that the other commands need no web framework.
    from amqpjobs.telemetry.logs import configure_logs_by, configured_by_import
    from amqpjobs.web.server import Listening

    settings = loaded.settings
    configure_logs_by(settings, buffered=True)
    other = None
    if asgi is not None:
        with configured_by_import():
            other = load_object(asgi, "--asgi", "api")
    if other is not None and not callable(other):
        raise ConfigurationError(
            f"--asgi {asgi!r} is {type(other).__name__}, not an ASGI application"
        )
    try:
        with (
            telemetry(loaded) as telling,
            asyncio.Runner(loop_factory=loop_factory(settings)) as runner,
        ):
            runner.run(_serve(loaded, Listening(settings), other, telling, recorder=recorder))
    finally:
        flush_output()


async def _serve(
    app: "App", listening: "Listening", other: Any, telling: Telling, *, recorder: bool
) -> None:
    from amqpjobs.web.server import WebServer
    from amqpjobs.web.tier import Tier

    server = WebServer(Tier(app, recorder=recorder), listening, other)

    def stop() -> None:
        telling.stopped()
        server.stop()

    deadline = stop_by_signals(stop, app.settings.shutdown_timeout)
    await server.run()
    deadline.done()
