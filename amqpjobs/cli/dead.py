"""``amqpjobs dead``: the jobs that failed for good. Looking takes nothing out."""

import asyncio
import base64
import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from amqpjobs.cli.loading import AppOption, JsonOption, UrlOption, load_app
from amqpjobs.cli.output import console, print_json, print_rows, say, table_of

if TYPE_CHECKING:
    from amqpjobs.app import App
    from amqpjobs.rabbitmq.inspection import Found

group = typer.Typer(help="Look at dead letters.", no_args_is_help=True)

COLUMNS = ("time", "id", "job", "why")

QueuesArgument = Annotated[
    list[str] | None, typer.Argument(help="Names of queues; all of the app's if none.")
]


@group.command("list")
def list_(
    queues: QueuesArgument = None,
    app: AppOption = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most, of each queue.")] = 100,
    parked: Annotated[bool, typer.Option("--parked", help="The parked jobs instead.")] = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """List dead letters, oldest first: which job, why, where, when."""
    loaded = load_app(app, url=url)
    found = asyncio.run(_peek(loaded, queues or [], limit, parked=parked))
    rows = [row_of(queue, message) for queue, message in found]
    for row in rows:
        parts = (row["reason"], row["exception"], row["message"])
        row["why"] = ": ".join(part for part in parts if part) or None
    what = "parked jobs" if parked else "dead letters"
    print_rows(rows, COLUMNS, as_json=as_json, empty=f"no {what}")
    if any(sum(q == name for q, _ in found) == limit for name in {q for q, _ in found}):
        say(f"the oldest {limit} of each queue; --limit shows more")


@group.command()
def show(
    job_id: Annotated[str, typer.Argument(help="The job's id, or how it begins.")],
    queues: QueuesArgument = None,
    app: AppOption = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How deep to look.")] = 1000,
    parked: Annotated[bool, typer.Option("--parked", help="A parked job instead.")] = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Show one dead letter whole: properties, failure, body."""
    loaded = load_app(app, url=url)
    found = asyncio.run(_peek(loaded, queues or [], limit, parked=parked))
    matches = [(q, m) for q, m in found if (m.properties.message_id or "").startswith(job_id)]
    if not matches:
        say(f"amqpjobs: no job {job_id} among the first {limit} of each queue")
        raise typer.Exit(1)
    if as_json:
        print_json([whole_of(queue, message) for queue, message in matches])
        return
    for queue, message in matches:
        whole = whole_of(queue, message)
        body = whole.pop("body")
        rows = [{"property": k, "value": v} for k, v in _flat(whole)]
        console().print(table_of(rows, ("property", "value")))
        text = json.dumps(body, indent=2, ensure_ascii=False) if whole["json"] else str(body)
        sys.stdout.write(f"\n{text}\n")


async def _peek(
    app: "App", names: list[str], limit: int, *, parked: bool
) -> "list[tuple[str, Found]]":
    from amqpjobs.rabbitmq.inspection import connected, peek

    chosen = app.choose_queues(names)
    found: list[tuple[str, Found]] = []
    async with connected(app.settings, "inspect") as wire:
        for queue in chosen:
            place = queue.parked if parked else queue.dead
            found += [(queue.name, message) for message in await peek(wire, place, limit)]
    return found


def row_of(queue: str, message: "Found") -> dict[str, Any]:
    """One line of the list."""
    from amqpjobs.copies import failure_of

    properties = message.properties
    failure = failure_of(properties.headers)
    return {
        "id": properties.message_id,
        "job": properties.type,
        "queue": queue,
        "reason": failure.reason if failure else None,
        "exception": failure.exception if failure else None,
        "message": failure.message if failure else None,
        "frames": list(failure.frames) if failure else [],
        "time": _moment(failure.time) if failure else None,
        "worker": failure.worker if failure else None,
        "bytes": len(message.body),
    }


def whole_of(queue: str, message: "Found") -> dict[str, Any]:
    """Everything about one: the body as JSON if it is, else in base64."""
    properties = message.properties
    row = row_of(queue, message)
    row["properties"] = {
        name: getattr(properties, name)
        for name in (
            "content_type", "priority", "correlation_id", "reply_to", "timestamp", "app_id",
        )
        if getattr(properties, name) is not None
    }  # fmt: skip
    row["headers"] = {k: v for k, v in properties.headers.items() if k != "amqpjobs-error"}
    try:
        row["body"], row["json"] = json.loads(message.body), True
    except ValueError:
        row["body"], row["json"] = base64.b64encode(message.body).decode(), False
    return row


def _flat(row: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for key, value in row.items():
        if isinstance(value, dict):
            flat += _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            flat += [(f"{prefix}{key}", item) for item in value]
        elif value is not None:
            flat.append((f"{prefix}{key}", value))
    return flat


def _moment(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
