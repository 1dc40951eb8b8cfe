"""``amqpjobs show``: shows a durable job with its steps, or the status of any other job.

Changes when the command shows something else.
"""

import asyncio
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from amqpjobs.cli.app_option import AppOption, JsonOption, UrlOption, load_app
from amqpjobs.cli.output import RED, YELLOW, moment, print_json, print_rows, say, shown_whole
from amqpjobs.cli.signal import JobIdArgument
from amqpjobs.cli.status import UNKNOWN, StoreOption, show_status
from amqpjobs.cli.timeline import mermaid
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.durations import duration_words
from amqpjobs.telemetry.safe_text import harmless, printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from amqpjobs.app import App
    from amqpjobs.jobs.durable.status import DurableStatus, StepStatus
    from amqpjobs.jobs.message.status import JobStatus

COLUMNS = ("step", "kind", "state", "attempts", "started", "took", "result", "child", "undo")


def show(
    job_id: JobIdArgument,
    app: AppOption = None,
    as_mermaid: Annotated[
        bool, typer.Option("--mermaid", help="Print a timeline of the steps, for Mermaid.")
    ] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Show the steps of a durable job, and what it waits for.

    The list has the jobs that the steps called. For a job that is not durable or has not begun,
    the command shows the same as `amqpjobs status`. Exits with 4 if the job is unknown.
    """
    loaded = load_app(app, url=url, store_url=store)
    durable, status = asyncio.run(_look(loaded, job_id))
    if durable is not None:
        _show(durable, as_json=as_json, as_mermaid=as_mermaid)
    elif status is None:
        shown = printable(job_id)
        say(f"nothing is known of a job {shown}; amqpjobs why {shown} looks further")
        raise typer.Exit(UNKNOWN)
    elif as_mermaid:
        raise ConfigurationError(f"{status.job} has no steps: it is not durable, or has not begun")
    elif as_json:
        print_json(asdict(status))
    else:
        show_status(status)


async def _look(app: "App", job_id: str) -> "tuple[DurableStatus | None, JobStatus | None]":
    try:
        durable = await app.durable_status(job_id)
        return durable, None if durable is not None else await app.status(job_id)
    finally:
        await app.close()


def _show(found: "DurableStatus", *, as_json: bool, as_mermaid: bool) -> None:
    if as_mermaid:
        sys.stdout.write(harmless(mermaid(found)))
    elif as_json:
        waits = [step.name for step in found.waiting]
        print_json({**asdict(found), "waiting": waits})
    else:
        _show_job(found)
        rows = [_row(step) for step in found.steps]
        print_rows(rows, COLUMNS, as_json=False, empty="no step has begun", mark=_mark)


def _show_job(found: "DurableStatus") -> None:
    waits = "; ".join(_waiting(step) for step in found.waiting)
    parent = None if found.parent_id is None else f"{found.parent_id} ({found.parent_step})"
    rows: dict[str, Any] = {
        "job": found.job, "id": found.id, "queue": found.queue, "state": found.state,
        "waits for": waits or None, "cancelled": found.cancelled, "replayed": found.epoch or None,
        "called by": parent, "error": found.error, "began": moment(found.created_at),
        "changed": moment(found.changed_at), "deadline": moment(found.deadline),
        "result": found.result,
    }  # fmt: skip
    for name, value in rows.items():
        if value is not None:
            typer.echo(f"{name:9} {shown_whole(value)}")


def _waiting(step: "StepStatus") -> str:
    until = "" if step.due_at is None else f" until {shown_whole(moment(step.due_at))}"
    return f"{step.waits_for}{until}"


def _row(step: "StepStatus") -> dict[str, Any]:
    took = None
    if step.started_at is not None and step.ended_at is not None:
        took = duration_words(max(0.0, step.ended_at - step.started_at))
    undo = None if step.undo is None else f"{step.undo} {step.undo_state or ''}".rstrip()
    if step.undo_error is not None:
        undo = f"{undo}: {step.undo_error}"
    child = None if step.child is None else f"{step.child} {step.child_id or ''}".rstrip()
    cursor = None if step.cursor is None else f"at {step.cursor}"
    told = step.progress or step.result or cursor
    return {
        "step": step.name, "kind": step.kind, "state": step.state, "attempts": step.attempts,
        "started": moment(step.started_at), "took": took,
        "result": step.error or (None if told is None else str(told)), "child": child, "undo": undo,
    }  # fmt: skip


def _mark(column: str, row: "Mapping[str, Any]") -> str | None:
    if column == "state":
        return {"failed": RED, "waiting": YELLOW}.get(row["state"])
    return RED if column == "undo" and " failed" in str(row.get("undo")) else None
