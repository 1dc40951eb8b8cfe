"""``amqpjobs delayed``: what waits for its time. Changes when a column does."""

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from amqpjobs.cli.app_option import AppOption, JsonOption, UrlOption, load_app
from amqpjobs.cli.output import moment, print_rows, say

if TYPE_CHECKING:
    from amqpjobs.app import App
    from amqpjobs.broker.rabbitmq.inspection.delayed import Delayed

group = typer.Typer(help="Look at jobs that wait for their time.", no_args_is_help=True)

SUMMARY = ("queue", "level", "waiting", "first_due", "last_due")
JOBS = ("due", "queue", "job", "id", "attempt", "level")


@group.command("list")
def list_(
    app: AppOption = None,
    limit: Annotated[
        int, typer.Option("--limit", min=1, help="Messages to read of each delay level, at most.")
    ] = 100,
    jobs: Annotated[bool, typer.Option("--jobs", help="One row for each job.")] = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Show delayed jobs, and when they are due.

    Retries, and jobs that were enqueued with a delay. They wait for whole powers of two of seconds:
    level 3 is eight seconds. Of this virtual host, whatever the app. Looking takes nothing out.
    """
    loaded = load_app(app, url=url)
    counted, found = asyncio.run(_look(loaded, limit))
    found.sort(key=lambda d: (d.due is None, d.due or 0))
    if jobs:
        print_rows([job_row(d) for d in found], JOBS, as_json=as_json, empty="nothing waits")
    else:
        print_rows(summary_rows(found), SUMMARY, as_json=as_json, empty="nothing waits")
    unseen = {level: count - limit for level, count in counted.items() if count > limit}
    if unseen:
        say(
            f"not looked at: {sum(unseen.values())} more at levels "
            f"{', '.join(map(str, unseen))}; --limit shows more"
        )


async def _look(app: "App", limit: int) -> "tuple[dict[int, int], list[Delayed]]":
    from amqpjobs.broker.rabbitmq.inspection.delayed import counts, look
    from amqpjobs.broker.rabbitmq.inspection.queues import connected

    async with connected(app.settings, "inspect") as wire:
        counted = {level: count for level, count in (await counts(wire)).items() if count}
        return counted, await look(wire, counted, limit)


def summary_rows(found: "Iterable[Delayed]") -> list[dict[str, Any]]:
    """One row for each queue and level."""
    groups: dict[tuple[str, int], list[Delayed]] = {}
    for delayed in found:
        groups.setdefault((delayed.queue, delayed.level), []).append(delayed)
    rows = []
    for (queue, level), members in sorted(groups.items()):
        dues = [d.due for d in members if d.due is not None]
        rows.append({
            "queue": queue,
            "level": level,
            "waiting": len(members),
            "first_due": moment(min(dues, default=None)),
            "last_due": moment(max(dues, default=None)),
        })  # fmt: skip
    return rows


def job_row(delayed: "Delayed") -> dict[str, Any]:
    """One waiting message."""
    return {
        "due": moment(delayed.due),
        "queue": delayed.queue,
        "job": delayed.job,
        "id": delayed.id,
        "attempt": delayed.attempt,
        "level": delayed.level,
    }
