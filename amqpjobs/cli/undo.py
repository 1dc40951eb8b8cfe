"""``amqpjobs undo``: takes back a durable job that has ended. Changes when that means more."""

import asyncio
from typing import TYPE_CHECKING

import typer

from amqpjobs.cli.app_option import AppOption, JsonOption, UrlOption, load_app
from amqpjobs.cli.output import print_json, say
from amqpjobs.cli.signal import JobIdArgument, send_outbox
from amqpjobs.telemetry.safe_text import printable

if TYPE_CHECKING:
    from amqpjobs.app import App

STATES = ("undoing", "undone")


def undo(
    job_id: JobIdArgument,
    app: AppOption = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Undo a durable job that has ended, or whose undo failed.

    Jobs that take its steps back run one after the other, the last step first. What had failed is
    sent again under new ids: discard the old dead letters. Exits with 1 if the job is not undone:
    it is unknown, runs or waits, or nothing of it has an undo.
    """
    loaded = load_app(app, url=url)
    state = asyncio.run(_undo(loaded, job_id))
    if as_json:
        print_json({"id": job_id, "state": state})
    else:
        say(f"{printable(job_id)}: {_words(state)}")
    if state not in STATES:
        raise typer.Exit(1)


def _words(state: str | None) -> str:
    match state:
        case None:
            return "no durable job is known by this id"
        case "undoing":
            return "it is being undone; amqpjobs show tells how far"
        case "undone":
            return "it is undone"
        case "running" | "suspended":
            return f"it is {state}: amqpjobs cancel --undo ends it, and undoes it"
        case _:
            return f"it is {state}, and nothing of it is left to undo"


async def _undo(app: "App", job_id: str) -> str | None:
    try:
        state = await app.undo(job_id)
        await send_outbox(app)
        return state
    finally:
        await app.close()
