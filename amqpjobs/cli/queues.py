"""``amqpjobs queues``: what waits, what runs, what failed. Changes when a column does."""

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from amqpjobs.cli.loading import AppOption, JsonOption, UrlOption, load_app
from amqpjobs.cli.output import console, print_rows, table_of

if TYPE_CHECKING:
    from amqpjobs.app import App
    from amqpjobs.rabbitmq.connection import Wire
    from amqpjobs.rabbitmq.inspection import Depth

COLUMNS = ("queue", "priority", "state", "ready", "unacked", "consumers", "dead", "parked")

DELAYED = "(delayed)"
UNROUTABLE = "(delayed, and its queue is gone)"


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
    from amqpjobs.rabbitmq.inspection import connected

    async with connected(app.settings, "inspect") as wire:
        if not watch or as_json or not sys.stdout.isatty():
            await _print(app, wire, watch=watch, as_json=as_json)
            return
        from rich.live import Live

        with Live(console=console(), auto_refresh=False) as live:
            while True:
                live.update(table_of(await rows_of(app, wire), COLUMNS), refresh=True)
                # The next look is due two seconds after this one began, not after it ended.
                await asyncio.sleep(2 - time.time() % 2)


async def _print(app: "App", wire: "Wire", *, watch: bool, as_json: bool) -> None:
    """One look after the other, for files and programs."""
    while True:
        rows = await rows_of(app, wire)
        print_rows(rows, COLUMNS, as_json=as_json, empty="the app has no queues")
        sys.stdout.flush()
        if not watch:
            return
        await asyncio.sleep(2 - time.time() % 2)


async def rows_of(app: "App", wire: "Wire") -> list[dict[str, Any]]:
    """One row for each AMQP queue that jobs wait in."""
    from amqpjobs.rabbitmq.delayed import counts
    from amqpjobs.rabbitmq.inspection import depths
    from amqpjobs.rabbitmq.marks import marked
    from amqpjobs.topology import DELAY_UNROUTABLE

    names = [
        name
        for queue in app.queues.values()
        for name in (*(lane.queue for lane in queue.lanes), queue.dead, queue.parked)
    ]
    found = await depths(wire, [*names, DELAY_UNROUTABLE], app.settings)
    waiting = sum((await counts(wire)).values())
    paused = await marked(wire, app.queues)
    rows: list[dict[str, Any]] = []
    for queue in app.queues.values():
        for lane in queue.lanes:
            depth, dead, parked = found[lane.queue], found[queue.dead], found[queue.parked]
            row: dict[str, Any] = {"queue": lane.queue, "priority": lane.priority}
            row["state"] = _state(depth, paused=queue.name in paused)
            row["ready"] = depth.ready if depth else None
            row["unacked"] = depth.unacked if depth else None
            row["consumers"] = depth.consumers if depth else None
            # Of the whole queue, so shown once, at the lane with its name.
            whole = lane.queue == queue.name
            row["dead"] = dead.ready if dead and whole else None
            row["parked"] = parked.ready if parked and whole else None
            row["exists"] = depth is not None
            rows.append(row)
    # Of the virtual host: the delays belong to no queue.
    if waiting:
        rows.append({"queue": DELAYED, "ready": waiting, "exists": True})
    lost = found[DELAY_UNROUTABLE]
    if lost is not None and lost.ready:
        rows.append({"queue": UNROUTABLE, "ready": lost.ready, "exists": True})
    return rows


def _state(depth: "Depth | None", *, paused: bool) -> str | None:
    if paused:
        return "paused"
    return "consuming" if depth is not None and depth.consumers else None
