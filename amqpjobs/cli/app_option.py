"""Finding the app that a command is about, and its settings. Changes when naming one does."""

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from amqpjobs.app import App
from amqpjobs.cli.output import complete_stdout, say
from amqpjobs.cli.unknown_variables import unknown_variables
from amqpjobs.client.client import registry_of
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.hints import did_you_mean
from amqpjobs.telemetry.terminal import is_terminal

AppOption = Annotated[
    str | None,
    typer.Option(
        "--app",
        "-A",
        envvar="AMQPJOBS_APP",
        help="Where the app is: package.module:app",
        show_default=False,
    ),
]
UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url",
        help="RabbitMQ's URL, before AMQPJOBS_URL. A password on the command line is seen by "
        "everybody on the machine: prefer the variable.",
        show_default=False,
    ),
]
VerboseOption = Annotated[
    bool,
    typer.Option(
        "--verbose", "-v", help="Log all keys and whole tracebacks on a terminal, as JSON has them."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def load_app(
    place: str | None, *, url: str | None = None, listens: bool = False, **flags: object
) -> App:
    """Import the app.

    Args:
        place: ``package.module:app``.
        url: before the environment's.
        listens: whether the command is a process of the app, and calls its broadcast handlers. One
            that does a thing and ends has no caches to drop, and must not wait for a handler.
        flags: settings given on the command line.

    Raises:
        ConfigurationError: there is none there; says what to write.
    """
    if not place:
        raise ConfigurationError("which app? give --app package.module:app, or set AMQPJOBS_APP")
    found = load_object(place, "--app", "app")
    if not isinstance(found, App):
        raise ConfigurationError(f"--app {place!r} is {type(found).__name__}, not an amqpjobs.App")
    complete_stdout()  # its module may have put an object of its own there
    found.check()
    found.configure(url=url, **flags)
    if not listens and (registry := registry_of(found)).broadcasts:
        registry.listening[os.getpid()] = load_app
    if "AMQPJOBS_SUPERVISOR" not in os.environ:  # its parent has said it
        for problem in unknown_variables(os.environ):
            say(f"amqpjobs: {problem}")
    return found


def format_of_log(verbose: bool, stream: object) -> str | None:
    """The setting ``log_format`` that ``--verbose`` stands for; None to leave it. JSON has it all.

    Args:
        verbose: whether it was given.
        stream: where log lines go.
    """
    readable = is_terminal(stream) or os.environ.get("AMQPJOBS_LOG_FORMAT") == "console"
    return "verbose" if verbose and readable else None


def load_object(place: str, option: str, name: str) -> object:
    """Import what an option names.

    Args:
        place: ``package.module:name``.
        option: for messages to people.
        name: of the object where the place has none.

    Raises:
        ConfigurationError: there is none there; says what to write.
    """
    said = f"{option} {place!r}"
    module_name, colon, path = place.partition(":")
    if not module_name or (colon and not path):
        raise ConfigurationError(f"{said}: write package.module:{name}")
    # As `python -m` does: the folder that the command is given in is importable.
    if "" not in sys.path and os.getcwd() not in sys.path:  # noqa: PTH109 - sys.path holds strings
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    with _import_errors(said, module_name):
        found: object = importlib.import_module(module_name)
    for part in (path or name).split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            hint = did_you_mean(part, vars(found)) if hasattr(found, "__dict__") else ""
            raise ConfigurationError(
                f"{said}: module {module_name!r} has no {path or name!r}{hint or _apps_of(found)}"
            ) from None
    return found


def _apps_of(module: object) -> str:
    """Which apps a module has, behind a message."""
    apps = [name for name, thing in vars(module).items() if isinstance(thing, App)]
    return f"; it has the app {apps[0]!r}" if apps else ""


def _modules_here() -> list[str]:
    return [path.stem for path in Path().iterdir() if path.suffix == ".py" or path.is_dir()]


@contextmanager
def _import_errors(said: str, module_name: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(error.name + ".")):
            raise ConfigurationError(
                f"{said}: there is no module {error.name!r}"
                + (did_you_mean(error.name, _modules_here()) or "; is this the right folder?")
            ) from error
        raise ConfigurationError(
            f"{said}: its import failed, since {error.name!r} is not installed"
        ) from error
    except ConfigurationError:
        raise
    except (Exception, SystemExit) as error:
        # `sys.exit` too: its status would be taken for this command's.
        raise ConfigurationError(
            f"{said}: its import failed: {type(error).__name__}: {error} (--debug shows where)"
        ) from error
