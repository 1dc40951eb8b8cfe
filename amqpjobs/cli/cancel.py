"""``amqpjobs cancel``: cancels a job by its id. Changes when the command says something else."""

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from amqpjobs.cli.app_option import AppOption, JsonOption, UrlOption, load_app
from amqpjobs.cli.output import print_json, say

if TYPE_CHECKING:
    from amqpjobs.app import App
    from amqpjobs.jobs.message.cancellation import Cancellation


def cancel(
    id: Annotated[str, typer.Argument(help="The job's id.", show_default=False)],  # noqa: A002
    app: AppOption = None,
    reason: Annotated[str, typer.Option("--reason", help="For its status and the log.")] = "",
    undo: Annotated[
        bool, typer.Option("--undo", help="For a durable job: undo the steps that it has done.")
    ] = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Cancel a job: it does not start any more.

    A running one is ended if it is @app.job(cancellable=True). All workers that are connected are
    told, and remember it for a day; with AMQPJOBS_STORE_URL those that start later know it, too.
    A durable job that waits ends at once, and so do the jobs that it waits for. Its steps are
    undone only with --undo. Exits with 1 if the job runs on, or if neither a worker nor the store
    knows it.
    """
    found = asyncio.run(_cancel(load_app(app, url=url), id, reason, undo=undo))
    if as_json:
        print_json(asdict(found))
    else:
        for line in lines_of(found):
            say(line)
    if found.running or not (found.workers or found.stored):
        raise typer.Exit(1)


async def _cancel(app: "App", job_id: str, reason: str, *, undo: bool) -> "Cancellation":
    try:
        return await app.cancel(job_id, reason=reason, undo=undo)
    finally:
        await app.close()  # before it closes, the app sends what is in the outbox


def lines_of(found: "Cancellation") -> list[str]:
    """What came of it, in words."""
    lines = [f"{worker}: its run is cancelled" for worker in found.cancelled]
    lines += [
        f"{worker}: it runs on, since the job is not cancellable; there is no other run of it"
        for worker in found.running
    ]
    if not found.workers and not found.stored:
        return ["no worker has answered, and no store is configured: nothing was cancelled"]
    workers = "1 worker" if len(found.workers) == 1 else f"{len(found.workers)} workers"
    lines.append(
        f"{workers} will not start it"
        + (", nor will those that start within a day" if found.stored else "")
    )
    return lines
