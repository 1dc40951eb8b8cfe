"""``amqpjobs queues``: what waits, what runs, what failed. Changes when a column does."""

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from amqpjobs.cli.app_option import AppOption, JsonOption, UrlOption, load_app
from amqpjobs.cli.output import console, print_rows, table_of

if TYPE_CHECKING:
    from amqpjobs.app import App
    from amqpjobs.broker.rabbitmq.connection import Wire

COLUMNS = ("queue", "priority", "state", "ready", "unacked", "consumers", "dead", "parked")


def queues(
    app: AppOption = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Again every two seconds.")] = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Show the app's queues: ready, unacked, consumers, dead letters, parked jobs, and delays.

    The state is 'paused' where a worker has paused the queue, 'consuming' where somebody consumes.
    Unacked comes from the management API (AMQPJOBS_MANAGEMENT_URL); '-' where it does not answer.
    """
    loaded = load_app(app, url=url)
    asyncio.run(_show(loaded, watch=watch, as_json=as_json))


async def _show(app: "App", *, watch: bool, as_json: bool) -> None:
    from amqpjobs.broker.rabbitmq.inspection.overview import rows_of
    from amqpjobs.broker.rabbitmq.inspection.queues import connected

    async with connected(app.settings, "inspect") as wire:
        if not watch or as_json or not sys.stdout.isatty():
            await _print(app, wire, watch=watch, as_json=as_json)
            return
        from rich.live import Live

        with Live(console=console(), auto_refresh=False) as live:
            while True:
                rows = await rows_of(app.queues, wire, app.settings)
                live.update(table_of(rows, COLUMNS), refresh=True)
                # The next look is due two seconds after this one began, not after it ended.
                await asyncio.sleep(2 - time.time() % 2)


async def _print(app: "App", wire: "Wire", *, watch: bool, as_json: bool) -> None:
    """One look after the other, for files and programs."""
    from amqpjobs.broker.rabbitmq.inspection.overview import rows_of

    while True:
        rows = await rows_of(app.queues, wire, app.settings)
        print_rows(rows, COLUMNS, as_json=as_json, empty="the app has no queues")
        sys.stdout.flush()
        if not watch:
            return
        await asyncio.sleep(2 - time.time() % 2)
