"""``amqpjobs health``: whether an event loop is alive, by the heartbeat file of its process.

A worker that RabbitMQ blocks, or that waits for its broker, is alive: whoever restarts it for that
only adds the work of starting. So the state is printed, and changes the exit status on demand only.
`amqpjobs.cli.probe` looks, and reads most command lines of probes before this is imported. Changes
when an option does.
"""

from pathlib import Path
from typing import Annotated

import typer

from amqpjobs.cli.duration_option import duration_option
from amqpjobs.cli.probe import FILE, Probe


def health(
    file: Annotated[
        Path | None,
        typer.Option("--file", envvar=FILE, help="The heartbeat file."),
    ] = None,
    max_age: Annotated[
        float | None, duration_option("--max-age", "An older file is not healthy.", least=1)
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Also exit with 1 in any state but ok: for readiness and alerts."
        ),
    ] = False,
) -> None:
    """Exit with 0 if the worker is alive, else with 1: for probes.

    It is alive if it touched its heartbeat file lately. Prints its state: ok, starting, stopping,
    reconnecting, "not consuming: queues", "blocked: reason" while RabbitMQ takes no messages, "log
    not read" while its stdout is not read, "no room: reason" when jobs find no thread, process or
    file, or "threads outlive their jobs: which". A restart fixes none of these, and a worker that
    finds no room for long ends by itself. "not starting jobs: queue" is a worker that holds jobs
    and starts none, and "not recording" is a recorder that holds events and writes none, each for 5
    seconds.
    """
    status = Probe(file, max_age, strict).run()
    if status:
        raise typer.Exit(status)
