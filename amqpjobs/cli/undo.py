"""``amqpjobs undo``: undoes a durable job that has ended. Changes when undoing does more."""

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

    The undo jobs of its steps run one after the other, the last step first. Undo jobs that failed
    are sent again under new ids: discard their old dead letters. Exits with 1 if the job is not
    undone: it is unknown, it runs or waits, or no step of it can be undone.
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
            return "there is no durable job with this id"
        case "undoing":
            return "it is being undone; amqpjobs show lists the steps"
        case "undone":
            return "it is undone"
        case "running" | "suspended":
            return f"it is {state}: amqpjobs cancel --undo cancels and undoes it"
        case _:
            return f"it is {state} and has no step to undo"


async def _undo(app: "App", job_id: str) -> str | None:
    try:
        state = await app.undo(job_id)
        await send_outbox(app)
        return state
    finally:
        await app.close()
