"""``amqpjobs why``: says why a job does not run. Changes when the command's output does."""

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from amqpjobs.cli.app_option import AppOption, JsonOption, UrlOption, load_app
from amqpjobs.cli.output import print_json, say
from amqpjobs.cli.signal import JobIdArgument
from amqpjobs.cli.status import UNKNOWN, StoreOption
from amqpjobs.telemetry.safe_text import printable

if TYPE_CHECKING:
    from amqpjobs.app import App
    from amqpjobs.jobs.message.why import Why


def why(
    job_id: JobIdArgument,
    app: AppOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Say why a job does not run, and show the facts.

    The command looks at the store, the statuses, the workers and the job's queue, and last at the
    dead letters. Exits with 4 if the job is unknown.
    """
    found = asyncio.run(_why(load_app(app, url=url, store_url=store), job_id))
    if as_json:
        print_json(asdict(found))
    else:
        typer.echo(printable(f"{found.sentence[:1].upper()}{found.sentence[1:]}."))
        for fact in found.facts:
            typer.echo(printable(f"  {fact.source:11} {fact.text}"))
        for unseen in found.unseen:
            say(f"not seen: {unseen}")
    if found.reason == "unknown":
        raise typer.Exit(UNKNOWN)


async def _why(app: "App", job_id: str) -> "Why":
    try:
        return await app.why(job_id)
    finally:
        await app.close()
