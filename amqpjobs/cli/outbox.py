"""``amqpjobs outbox``: messages that transactions have stored, and RabbitMQ does not have yet.

Changes when a column or an option does.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from amqpjobs.cli.app_option import AppOption, JsonOption, load_app
from amqpjobs.cli.new_file import new_file
from amqpjobs.cli.output import RED, agrees, moment, print_json, print_rows, say
from amqpjobs.errors import ConfigurationError

if TYPE_CHECKING:
    from amqpjobs.app import App
    from amqpjobs.state.memory import Memory
    from amqpjobs.state.outbox.managing import Kept

group = typer.Typer(
    help="Look at what waits in the outbox, and at what RabbitMQ refused.",
    no_args_is_help=True,
)

COLUMNS = ("state", "stored", "job", "id", "queue", "error")

WhichArgument = Annotated[
    list[str] | None,
    typer.Argument(help="Ids of jobs, or how they begin.", show_default=False),
]
AllOption = Annotated[bool, typer.Option("--all", help="Select all that failed.")]


@group.command("list")
def list_(
    which: WhichArgument = None,
    app: AppOption = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only those that failed.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Messages to show, at most.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """Show messages that are stored, and not in RabbitMQ yet.

    'waiting' ones are sent by the process that has committed them, or by any `amqpjobs consume`,
    `web` or `record` of the app; 'sending': some process does, or has just tried. 'failed' ones
    were refused for good, say since their queue is missing: they stay until `retry` or `discard`.
    """
    loaded = load_app(app)

    async def look() -> "tuple[list[Kept], int]":
        from amqpjobs.state.outbox.managing import rows_of

        async with _outbox(loaded) as memory:
            if memory is None:
                return [], 0
            return await rows_of(memory, which or (), failed=failed, limit=limit)

    rows, count = asyncio.run(look())
    empty = "nothing waits in the outbox"
    print_rows([_row(each) for each in rows], COLUMNS, as_json=as_json, empty=empty, mark=_mark)
    if count > len(rows):
        say(f"not shown: {count - len(rows)} more; --limit shows more")


@group.command()
def retry(
    which: WhichArgument = None,
    app: AppOption = None,
    everything: AllOption = False,
    as_json: JsonOption = False,
) -> None:
    """Send messages that failed again, their cause corrected.

    Any `amqpjobs consume`, `web` or `record` of the app sends them within seconds.
    """
    loaded = load_app(app)
    _require_choice(which, everything)

    async def work() -> int:
        from amqpjobs.state.outbox.managing import retry as again

        async with _outbox(loaded) as memory:
            return 0 if memory is None else await again(memory, which or ())

    count = asyncio.run(work())
    if as_json:
        print_json({"retried": count})
    else:
        say(f"{_messages(count)} will be sent again")


@group.command()
def discard(
    which: WhichArgument = None,
    app: AppOption = None,
    everything: AllOption = False,
    export: Annotated[
        Path | None,
        typer.Option(
            "--export", help="Write the messages to this new file first.", show_default=False
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Discard messages that failed, for good. Asks for confirmation.

    Their jobs never run. Messages that wait stay. What was exported comes back with `dead import
    FILE --to QUEUE`.
    """
    loaded = load_app(app)
    _require_choice(which, everything)
    if not yes:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise ConfigurationError("not a terminal: pass --yes to discard without confirmation")
        count = asyncio.run(_count_failed(loaded, which or []))
        if count and not agrees(f"Throw {_messages(count)} away, for good?", default=False):
            say("nothing was discarded")
            raise typer.Exit(1)
    removed = _discarded(loaded, which or [], export)
    if as_json:
        file = None if export is None else str(export)
        print_json({"discarded": removed, "export": file})
    else:
        say(f"{_messages(removed)} discarded" + ("" if export is None else f", in {export}"))


def _discarded(app: "App", which: list[str], export: Path | None) -> int:
    from amqpjobs.state.outbox.managing import discard as remove

    async def work(write: Any = None) -> int:
        async with _outbox(app) as memory:
            return 0 if memory is None else await remove(memory, which, write)

    if export is None:
        return asyncio.run(work())
    with new_file(export) as file:

        def write(lines: list[bytes]) -> None:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())

        try:
            return asyncio.run(work(write))
        except BaseException:  # Ctrl-C, a full disk, a database that is away
            if os.fstat(file.fileno()).st_size:
                say(f"not all was discarded; what was is only in {export}: keep it")
            else:
                export.unlink(missing_ok=True)
            raise


async def _count_failed(app: "App", which: list[str]) -> int:
    from amqpjobs.state.outbox.managing import rows_of

    async with _outbox(app) as memory:
        return 0 if memory is None else (await rows_of(memory, which, failed=True, limit=1))[1]


@asynccontextmanager
async def _outbox(app: "App") -> "AsyncIterator[Memory | None]":
    """The memory of an app; None where there is no SQLite file yet: looking makes none."""
    from amqpjobs.state.store.engine import missing, store_exists

    try:
        from amqpjobs.state.examination.databases import closing
        from amqpjobs.state.memory import memory_of
    except ImportError as error:
        raise missing(error) from error
    memory = memory_of(app.client)
    if memory.outbox.bind is None and not store_exists(app.settings):
        yield None
        return
    async with closing(memory):
        yield memory


def _require_choice(which: list[str] | None, everything: bool) -> None:
    if bool(which) == everything:
        raise ConfigurationError(
            "--all, or some of them: not both"
            if everything
            else "which ones? Give the id of a job, or --all"
        )


def _row(kept: "Kept") -> dict[str, Any]:
    return {
        "state": kept.state,
        "stored": moment(kept.created_at),
        "age_s": round(kept.age, 3),
        "job": kept.job,
        "id": kept.job_id,
        "queue": kept.queue,
        "key": kept.key,
        "due": moment(kept.due_at),
        "error": kept.error,
    }


def _mark(column: str, row: Mapping[str, Any]) -> str | None:
    return RED if column == "state" and row["state"] == "failed" else None


def _messages(count: int) -> str:
    return "1 message" if count == 1 else f"{count} messages"
