"""``amqpjobs demo``: the photo album, with no RabbitMQ and no set-up.

Changes when its options do.
"""

import asyncio
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from amqpjobs.cli.app_option import JsonOption
from amqpjobs.cli.duration_option import duration_option
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.hints import install
from amqpjobs.telemetry.terminal import is_terminal

if TYPE_CHECKING:
    from amqpjobs.demo.screen import Screen
    from amqpjobs.demo.show import Show

LONGEST = 120.0
"""Seconds for `--once`."""


def demo(
    photographs: Annotated[
        Path | None,
        typer.Option("--photographs", metavar="FOLDER", help="Your own JPEG files to use."),
    ] = None,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port of the page, if it is free.")
    ] = 8000,
    once: Annotated[
        bool, typer.Option("--once", help="End when each photograph has been processed once.")
    ] = False,
    seconds: Annotated[float | None, duration_option("--seconds", "After which to end.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show a photo album: a broker, a web page, two workers, jobs.

    The broker is in this process. Photographs are put in and become thumbnails, one job each; one
    is too large and fails alone. It runs until Ctrl-C on a terminal, and else as with --once.
    Nothing of it is left.
    """
    _require_extra()
    from amqpjobs.demo.photographs import PhotographsMissing, photographs_in
    from amqpjobs.demo.show import Show

    try:
        given = None if photographs is None else photographs_in(photographs)
    except PhotographsMissing as error:
        raise ConfigurationError(f"--photographs: {error}") from None
    once = once or (seconds is None and not is_terminal(sys.stdout))
    with tempfile.TemporaryDirectory(prefix="amqpjobs-demo-") as folder:
        show = Show(Path(folder), port, given)
        good = asyncio.run(_run(show, _screen(as_json=as_json), once=once, seconds=seconds))
    raise typer.Exit(0 if good else 1)


def _require_extra() -> None:
    try:
        import amqpjobs.demo.web
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"the demo needs more than is installed ({error.name!r} is not): "
            + install("amqpjobs[demo]")
        ) from None
    assert amqpjobs.demo.web  # noqa: S101 - it is imported to see whether it can be


def _screen(*, as_json: bool) -> "Screen":
    from amqpjobs.demo.screen import Json, Lines, Terminal

    if as_json:
        return Json()
    return Terminal() if is_terminal(sys.stdout) else Lines()


async def _run(show: "Show", screen: "Screen", *, once: bool, seconds: float | None) -> bool:
    stopped = asyncio.Event()
    told = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        told.set()
        stopped.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)

    def ready() -> None:
        screen.ready(show)
        limit = seconds if seconds is not None else LONGEST if once else None
        if limit is not None:
            loop.call_later(limit, stopped.set)

    screen.starts()
    following = asyncio.create_task(screen.follow(show))
    try:
        await show.run(stopped, once=once, ready=ready)
    finally:
        following.cancel()
        await asyncio.wait([following])
    screen.ends(show)
    return told.is_set() or seconds is not None or show.is_good
