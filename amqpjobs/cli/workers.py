"""``amqpjobs workers`` and ``amqpjobs ping``: what the workers say of themselves, on request.

Changes when a column does.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from amqpjobs.cli.app_option import AppOption, JsonOption, UrlOption, load_app
from amqpjobs.cli.duration_option import duration_option
from amqpjobs.cli.output import moment, print_json, print_rows, say

if TYPE_CHECKING:
    from amqpjobs.client.fleet_answers import WorkerInfo

COLUMNS = (
    "worker", "version", "state", "queues", "concurrency", "running", "waiting", "oldest_s",
    "lag_ms", "memory_mib", "since",
)  # fmt: skip
JOBS = ("worker", "job", "id", "queue", "attempt", "seconds")

WithinOption = Annotated[
    float, duration_option("--within", "How long to wait for answers.", least=0.05)
]


def workers(
    app: AppOption = None,
    jobs: Annotated[bool, typer.Option("--jobs", help="One row for each running job.")] = False,
    within: WithinOption = 1.0,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Show each worker process and what it runs.

    They are asked over the broker, and answer within a second. One whose event loop is blocked does
    not answer. With --jobs the longest 100 jobs of each.
    """
    found = asyncio.run(load_app(app, url=url).fleet.workers(within=within))
    if as_json:
        print_json([asdict(info) for info in found])
    elif jobs:
        print_rows(list(job_rows(found)), JOBS, as_json=False, empty="no job runs")
    else:
        print_rows([row_of(info) for info in found], COLUMNS, as_json=False, empty="no worker")


def ping(
    app: AppOption = None,
    within: WithinOption = 1.0,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Ask the broker and every worker for an answer.

    Exits with 0 if all answer, with 1 if there is no worker or a consumer of the app's queues does
    not answer, with 3 if there is no connection.
    """
    found = asyncio.run(load_app(app, url=url).fleet.ping(within=within))
    if as_json:
        print_json({
            "ok": found.ok,
            "broker": found.broker,
            "broker_s": round(found.seconds, 6),
            "workers": [info.worker for info in found.workers],
            "silent": dict(found.silent),
        })  # fmt: skip
    else:
        say(f"{found.broker}: answers in {found.seconds * 1000:.1f} ms")
        for info in found.workers:
            say(f"{info.worker}: {info.state}, {info.running} running")
        for queue, count in found.silent.items():
            consumers = "1 consumer" if count == 1 else f"{count} consumers"
            say(f"{queue}: {consumers} did not answer")
        if not found.workers:
            say("no worker answers")
    if not found.ok:
        raise typer.Exit(1)


def row_of(info: "WorkerInfo") -> dict[str, Any]:
    """One worker in a table."""
    paused = [queue for queue, state in info.queues.items() if state == "paused"]
    queues = ", ".join(f"{q} (paused)" if q in paused else q for q in info.queues)
    return {
        "worker": info.worker,
        "version": info.version,
        "state": info.state,
        "queues": queues,
        "concurrency": info.concurrency,
        "running": info.running,
        "waiting": info.waiting,
        "oldest_s": round(info.jobs[0].seconds, 1) if info.jobs else None,
        "lag_ms": round(info.lag * 1000, 1),
        "memory_mib": round(info.memory / 2**20) or None,
        "since": moment(info.since),
    }


def job_rows(found: "Iterable[WorkerInfo]") -> "Iterable[dict[str, Any]]":
    """One row for each running job."""
    for info in found:
        for job in info.jobs:
            yield {"worker": info.worker, **asdict(job), "seconds": round(job.seconds, 1)}
