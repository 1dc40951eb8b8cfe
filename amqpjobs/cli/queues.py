"""``amqpjobs queues``: what waits, what runs, what failed. Changes when a column does."""

import asyncio
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from amqpjobs.cli.app_option import AppOption, JsonOption, UrlOption, load_app
from amqpjobs.cli.output import RED, YELLOW, console, moment, print_rows, say, shown, table_of
from amqpjobs.errors import AmqpJobsError
from amqpjobs.telemetry.terminal import is_terminal

if TYPE_CHECKING:
    from amqpjobs.app import App
    from amqpjobs.broker.rabbitmq.connection import Wire

COLUMNS = ("queue", "priority", "state", "ready", "unacked", "consumers", "dead", "parked")


def queues(
    app: AppOption = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Repeat every two seconds.")] = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Show what waits, runs and failed in each queue.

    The state is 'paused' where a worker or an operator has paused the queue, 'consuming' where it
    has consumers. On a terminal --watch shows when the numbers of each have changed. Unacked
    comes from the management API (AMQPJOBS_MANAGEMENT_URL); '-' where it does not answer. A line
    below tells what waits in the outbox, if anything does; JSON has a last row without a queue.
    """
    loaded = load_app(app, url=url)
    asyncio.run(_show(loaded, watch=watch, as_json=as_json))


def mark(column: str, row: Mapping[str, Any]) -> str | None:
    """What somebody should look at: failed and parked jobs, queues that are paused or missing, and
    jobs that wait where nobody consumes."""
    match column:
        case "queue" if not row.get("exists", True):
            return RED
        case "dead" if row.get("dead"):
            return RED
        case "parked" if row.get("parked"):
            return YELLOW
        case "state" if row.get("state") == "paused":
            return YELLOW
        case "consumers" if row.get("consumers") == 0 and row.get("ready"):
            return YELLOW
    return None


def held_lines(rows: list[dict[str, Any]]) -> list[str]:
    """What is held back in each queue, in words; the lanes of a queue have the same."""
    lines: dict[str, None] = {}
    for row in rows:
        if row.get("singleton"):
            lines[f"{row['queue']}: one job at a time, in all workers"] = None
        if (by := row.get("paused_by")) is not None:
            until = row["paused_until"]
            end = "until `amqpjobs resume`" if until is None else f"until {moment(until)}"
            lines[f"{row['queue']}: paused by {by or 'an operator'} {end}"] = None
        if row.get("rate") is not None:
            lines[f"{row['queue']}: {shown(row['rate'])} for each worker, set by an operator"] = (
                None
            )
    return list(lines)


async def outbox_row(app: "App") -> dict[str, Any] | None:
    """What is in the outbox of the app, or why that cannot be told; None for nothing."""
    from amqpjobs.state.needs import uses_store

    if not uses_store(app.client):
        return None
    try:
        from amqpjobs.state.outbox.looking import held_of

        held = await held_of(app.client)
    except ImportError:
        return {"error": "the extra sql is not installed"}
    except AmqpJobsError as error:
        return {"error": str(error)}
    if held is None or not (held.open or held.failed):
        return None
    oldest = None if held.oldest is None else round(held.oldest, 3)
    return {"open": held.open, "oldest_s": oldest, "failed": held.failed}


def outbox_line(row: dict[str, Any]) -> str:
    """The same in words."""
    if "error" in row:
        return f"outbox: not looked at: {row['error']}"
    found = []
    if row["open"]:
        found.append(f"{row['open']} not sent yet, the oldest for {row['oldest_s']:.0f} s")
    if row["failed"]:
        found.append(f"{row['failed']} refused by RabbitMQ (`amqpjobs outbox list`)")
    return f"outbox: {'; '.join(found)}"


class Changes:
    """Notes when the numbers of each queue have changed, from the first look on."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[object, ...]] = {}
        self._changed: dict[str, float] = {}

    def noted(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The rows with ``changed``; None while nothing has."""
        for row in rows:
            name = row["queue"]
            numbers = tuple(row.get(column) for column in COLUMNS)
            if self._last.setdefault(name, numbers) != numbers:
                self._last[name], self._changed[name] = numbers, time.time()
            row["changed"] = moment(self._changed.get(name))
        return rows


async def _show(app: "App", *, watch: bool, as_json: bool) -> None:
    from amqpjobs.broker.rabbitmq.inspection.overview import rows_of
    from amqpjobs.broker.rabbitmq.inspection.queues import connected

    async with connected(app.settings, "inspect") as wire:
        if not watch or as_json or not is_terminal(sys.stdout):
            await _print(app, wire, watch=watch, as_json=as_json)
            return
        from rich.console import Group
        from rich.live import Live
        from rich.text import Text

        changes = Changes()
        with Live(console=console(), auto_refresh=False) as live:
            while True:
                rows = changes.noted(await rows_of(app.queues, wire, app.settings))
                outbox = await outbox_row(app)
                below = [] if outbox is None else [Text(outbox_line(outbox))]
                live.update(
                    Group(table_of(rows, (*COLUMNS, "changed"), mark), *below), refresh=True
                )
                # The next look is due two seconds after this one began, not after it ended.
                await asyncio.sleep(2 - time.time() % 2)


async def _print(app: "App", wire: "Wire", *, watch: bool, as_json: bool) -> None:
    """One look after the other, for files and programs."""
    from amqpjobs.broker.rabbitmq.inspection.overview import rows_of

    while True:
        rows = await rows_of(app.queues, wire, app.settings)
        outbox = await outbox_row(app)
        shown = (
            rows if outbox is None or not as_json else [*rows, {"queue": None, "outbox": outbox}]
        )
        print_rows(shown, COLUMNS, as_json=as_json, empty="the app has no queues", mark=mark)
        if not as_json:
            for line in held_lines(rows):
                say(line)
            if outbox is not None:
                say(outbox_line(outbox))
        sys.stdout.flush()
        if not watch:
            return
        await asyncio.sleep(2 - time.time() % 2)
