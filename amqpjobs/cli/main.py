"""The program ``amqpjobs``: its commands, and what becomes of errors.

Exit status: 0 done or drained, 1 failed, 2 usage, 3 broker unreachable, 130 interrupted. Changes
when a command is added.
"""

import errno
import os
import sys
from typing import Annotated

import typer

from amqpjobs.cli import (
    asyncapi,
    bench,
    broker,
    chaos,
    consume,
    dead,
    delayed,
    demo,
    deploy,
    doctor,
    guide,
    health,
    init,
    new,
    queues,
    run,
    shell,
    status,
    topology,
    web,
)
from amqpjobs.cli.output import say
from amqpjobs.errors import AmqpJobsError, BrokerUnavailable, ConfigurationError, UnknownJob

program = typer.Typer(
    name="amqpjobs",
    help="Jobs on RabbitMQ: consume queues, enqueue and run jobs, look at queues and dead letters.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"amqpjobs {version('amqpjobs')}")
        raise typer.Exit


@program.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", envvar="AMQPJOBS_DEBUG", help="Show tracebacks.")
    ] = False,
) -> None:
    from amqpjobs.telemetry.logs import quiet_libraries

    if debug:
        os.environ["AMQPJOBS_DEBUG"] = "1"
    quiet_libraries("debug" if debug else "info")


program.command()(consume.consume)
program.command()(web.web)
program.command()(run.run)
program.command()(run.enqueue)
program.command()(shell.shell)
program.command()(queues.queues)
program.command()(doctor.doctor)
program.command()(asyncapi.asyncapi)
program.command()(health.health)
program.command()(guide.guide)
program.command()(status.status)
program.command()(status.record)
program.command()(status.migrate)
program.command()(bench.bench)
program.command()(demo.demo)
program.command()(broker.broker)
program.command()(new.new)
program.command()(chaos.chaos)
program.add_typer(dead.group, name="dead")
program.add_typer(delayed.group, name="delayed")
program.add_typer(deploy.group, name="deploy")
program.add_typer(topology.group, name="topology")


def main() -> None:
    """Run the program; every error of ours becomes one line and an exit status."""
    init.stand_in_for_init()
    try:
        program()
    except AmqpJobsError as error:
        if _debugging():
            raise
        say(f"amqpjobs: {error}")
        sys.exit(exit_status(error))
    except OSError as error:
        # The machine's: no more files, no space, a pipe that was closed.
        if _debugging():
            raise
        say(f"amqpjobs: {error}" + (" (see ulimit -n)" if error.errno == errno.EMFILE else ""))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _debugging() -> bool:
    return os.environ.get("AMQPJOBS_DEBUG", "") not in ("", "0")


def exit_status(error: AmqpJobsError) -> int:
    """The exit status for an error."""
    if isinstance(error, BrokerUnavailable):
        return 3
    return 2 if isinstance(error, ConfigurationError | UnknownJob) else 1
