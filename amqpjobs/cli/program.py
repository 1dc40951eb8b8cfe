"""The commands of the program ``amqpjobs``. Changes when a command is added."""

import os
from importlib import import_module
from typing import Annotated, Any, Final

import typer
import typer.core

_PANELS: Final = {
    "Work": {
        "consume": "consume",
        "web": "web",
        "record": "status",
        "run": "run",
        "enqueue": "run",
        "publish": "publish",
    },
    "Look": {
        "queues": "queues",
        "status": "status",
        "show": "show",
        "why": "why",
        "dead": "dead",
        "delayed": "delayed",
        "outbox": "outbox",
        "limits": "limits",
        "schedules": "schedules",
        "doctor": "doctor.command",
        "health": "health",
    },
    "Operate": {
        "pause": "operate",
        "resume": "operate",
        "set-rate": "operate",
        "cancel": "cancel",
        "signal": "signal",
        "undo": "undo",
        "purge": "purge",
        "workers": "workers",
        "ping": "workers",
    },
    "Develop": {
        "new": "new",
        "broker": "broker",
        "shell": "shell",
        "demo": "demo",
        "guide": "guide",
        "bench": "bench",
        "chaos": "chaos.command",
    },
    "Deploy": {
        "topology": "topology",
        "migrate": "status",
        "asyncapi": "asyncapi",
        "deploy": "deploy.command",
    },
}
"""What ``--help`` lists: under each heading the commands, with their modules. The function of a
command has its name."""

_GROUPS: Final = frozenset(
    {"dead", "delayed", "deploy", "limits", "outbox", "schedules", "topology"}
)
"""Those that have commands of their own: `group` of the module."""

_NAMES: Final = frozenset(name for commands in _PANELS.values() for name in commands)


class Commands(typer.core.TyperGroup):
    """The commands under their headings, as plain lines: typer's own headings come with frames, and
    are not for pipes."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """See ``click.Group``."""
        width = max(map(len, self.commands))
        room = formatter.width - width - 6
        for panel, names in _PANELS.items():
            there = [(name, self.commands[name]) for name in names if name in self.commands]
            rows = [(name.ljust(width), each.get_short_help_str(room)) for name, each in there]
            if rows:
                with formatter.section(panel):
                    formatter.write_dl(rows)


def program_for(command: str | None = None) -> typer.Typer:
    """Make the program.

    Args:
        command: the command that is to be run, so that others are not imported: with all of them a
            worker starts a fifth later. All other strings, and None, for all commands.
    """
    program = typer.Typer(
        name="amqpjobs",
        cls=Commands,
        help="Jobs on RabbitMQ: consume queues, enqueue and run jobs, look at queues and dead "
        "letters. A duration is seconds, or has units: 500ms, 90s, 5m, 1h30m, 7d.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    program.callback()(_options)
    one = command in _NAMES
    for commands in _PANELS.values():
        for name, module in commands.items():
            if one and name != command:
                continue
            found = import_module(f"amqpjobs.cli.{module}")
            if name in _GROUPS:
                program.add_typer(found.group, name=name)
            else:
                program.command()(getattr(found, name.replace("-", "_")))
    return program


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"amqpjobs {version('amqpjobs')}")
        raise typer.Exit


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
