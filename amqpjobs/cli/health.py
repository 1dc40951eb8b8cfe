"""``amqpjobs health``: whether an event loop is alive, by the heartbeat file of its process.

A worker that RabbitMQ blocks, or that waits for its broker, is alive: whoever restarts it for that
only adds the work of starting. So the state is printed, and changes the exit status on demand only.
"""

from pathlib import Path
from typing import Annotated

import typer

from amqpjobs.cli.output import printable, say
from amqpjobs.errors import ConfigurationError


def health(
    file: Annotated[
        Path | None,
        typer.Option("--file", envvar="AMQPJOBS_HEARTBEAT_FILE", help="The heartbeat file."),
    ] = None,
    max_age: Annotated[
        float | None, typer.Option("--max-age", min=1, help="Seconds; older is not healthy.")
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Exit with 1 in any state but ok, too: for readiness, and for alerts."
        ),
    ] = False,
) -> None:
    """Exit with 0 if the worker touched its heartbeat file lately, else with 1. For probes.

    Prints its state: ok, starting, stopping, reconnecting, "not consuming: queues", "blocked:
    reason" while RabbitMQ takes no messages, "no room: reason" when jobs find no thread, process or
    file, or "threads outlive their jobs: which". A restart fixes none of these, and a worker that
    finds no room for long ends by itself. "not starting jobs: queue" is a worker that holds jobs
    and starts none, and "not recording" is a recorder that holds events and writes none, each for
    5 seconds.
    """
    from amqpjobs.worker.liveness import files_of

    if file is None:
        raise ConfigurationError(
            "which file? set AMQPJOBS_HEARTBEAT_FILE for the worker and for this, or give --file"
        )
    states = [_state_of(each, max_age, strict=strict) for each in files_of(file)]
    typer.echo("\n".join(map(printable, states)))


def _state_of(file: Path, max_age: float | None, *, strict: bool) -> str:
    """How one process is; exits with 1 if it is not healthy."""
    from amqpjobs.worker.liveness import OK, STALE, age_of, state_of

    age = age_of(file)
    if age is None:
        say(f"not healthy: there is no {file}; no worker writes it")
        raise typer.Exit(1)
    if age > (max_age or STALE):
        say(f"not healthy: {file} was touched {age:.0f} s ago")
        raise typer.Exit(1)
    state = state_of(file)
    if strict and state != OK:
        say(f"not healthy: {state}, {age:.0f} s ago")
        raise typer.Exit(1)
    return f"healthy: {state}, {age:.0f} s ago"
