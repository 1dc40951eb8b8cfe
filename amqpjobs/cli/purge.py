"""``amqpjobs purge``: removes the jobs that wait in a queue. Changes when an option does."""

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from amqpjobs.cli.app_option import AppOption, JsonOption, UrlOption, load_app
from amqpjobs.cli.new_file import new_file
from amqpjobs.cli.operate import QueueArgument
from amqpjobs.cli.output import agrees, print_json, say
from amqpjobs.errors import ConfigurationError

if TYPE_CHECKING:
    from amqpjobs.app import App
    from amqpjobs.client.deadletters.report import Moved


def purge(
    queue: QueueArgument,
    app: AppOption = None,
    export: Annotated[
        Path | None,
        typer.Option("--export", help="Write the jobs to this new file first.", show_default=False),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Remove the jobs that wait in a queue, for good. Asks for confirmation.

    Of all priorities. Running and delayed jobs stay, and so do dead letters. What was exported
    comes back with `dead import FILE --to QUEUE`.
    """
    loaded = load_app(app, url=url)
    count = asyncio.run(loaded.fleet.count(queue))
    if not yes:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise ConfigurationError("not a terminal: pass --yes to purge without confirmation")
        jobs = "one job that waits" if count == 1 else f"{count} jobs that wait"
        question = f"Remove the {jobs} in {queue!r}, for good?"
        if count and not agrees(question, default=False):
            say("nothing was removed")
            raise typer.Exit(1)
    moved = _purged(loaded, queue, export)
    if as_json:
        print_json({
            "queue": queue,
            "removed": moved.done,
            "by_queue": dict(moved.targets),
            "export": None if export is None else str(export),
        })  # fmt: skip
    else:
        jobs = "1 job" if moved.done == 1 else f"{moved.done} jobs"
        say(f"{queue}: {jobs} removed" + ("" if export is None else f", in {export}"))
    for unseen in moved.unseen:
        say(str(unseen))


def _purged(app: "App", queue: str, export: Path | None) -> "Moved":
    if export is None:
        return asyncio.run(app.fleet.purge(queue))
    with new_file(export) as file:
        try:
            return asyncio.run(app.fleet.purge(queue, export=file))
        except BaseException:  # Ctrl-C, a full disk, a lost connection
            if os.fstat(file.fileno()).st_size:
                say(
                    f"not all was removed; what was is only in {export}: keep it, and bring it "
                    f"back with `amqpjobs dead import {export} --to {queue}`"
                )
            else:
                export.unlink(missing_ok=True)
            raise
