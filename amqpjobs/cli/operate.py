"""``amqpjobs pause``, ``resume`` and ``set-rate``: what operators set for all workers of a queue.

Changes when an operator can set something else.
"""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from amqpjobs.cli.app_option import AppOption, JsonOption, UrlOption, load_app
from amqpjobs.cli.duration_option import duration_option
from amqpjobs.cli.output import moment, print_json, say
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.durations import LONGEST_DELAY
from amqpjobs.jobs.queue.limits import starts_per_second

if TYPE_CHECKING:
    from amqpjobs.app import App
    from amqpjobs.jobs.queue.holds import Hold

QueueArgument = Annotated[str, typer.Argument(help="The queue's name.", show_default=False)]
ByOption = Annotated[
    str | None,
    typer.Option("--by", help="Who does it, for others to see.", show_default="user@host"),
]


def pause(
    queue: QueueArgument,
    app: AppOption = None,
    for_: Annotated[
        float | None,
        duration_option("--for", "Resume by itself after this time.", least=1, most=LONGEST_DELAY),
    ] = None,
    by: ByOption = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Start no more jobs of a queue, in all workers.

    Running jobs go on; workers requeue what they had not started. It is kept on the broker, and
    lasts over restarts of workers and of RabbitMQ.
    """
    loaded = load_app(app, url=url)

    async def change() -> "tuple[list[str], Hold | None]":
        return await loaded.fleet.pause(queue, for_=for_, by=by), await _held(loaded, queue)

    workers, hold = asyncio.run(change())
    until = hold.until if hold is not None else None
    end = "" if until is None else f" until {moment(until)}"
    _report(queue, f"paused{end}", workers, hold, as_json=as_json)


def resume(
    queue: QueueArgument,
    app: AppOption = None,
    by: ByOption = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Start the jobs of a queue again, after `pause`.

    A kill switch that has paused it goes on by itself.
    """
    loaded = load_app(app, url=url)

    async def change() -> "tuple[list[str], Hold | None]":
        return await loaded.fleet.resume(queue, by=by), await _held(loaded, queue)

    workers, hold = asyncio.run(change())
    _report(queue, "resumed", workers, hold, as_json=as_json)


def set_rate(
    queue: QueueArgument,
    rate: Annotated[
        str,
        typer.Argument(help="Such as 100/s, 30/m, 20/h; none for the queue's own.", metavar="RATE"),
    ],
    app: AppOption = None,
    by: ByOption = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Limit how many jobs of a queue each worker starts.

    It replaces the queue's own rate in each worker process, and lasts over restarts. 'none' ends
    it.
    """
    loaded = load_app(app, url=url)
    wanted = None if rate.lower() == "none" else rate
    if wanted is not None:
        try:
            starts_per_second(wanted)
        except ConfigurationError as error:
            raise ConfigurationError(f"{error}; none is the queue's own rate") from None

    async def change() -> "tuple[list[str], Hold | None]":
        return await loaded.fleet.set_rate(queue, wanted, by=by), await _held(loaded, queue)

    workers, hold = asyncio.run(change())
    done = "has its own rate again" if wanted is None else f"limited to {wanted} for each worker"
    _report(queue, done, workers, hold, as_json=as_json)


async def _held(app: "App", queue: str) -> "Hold | None":
    return (await app.fleet.holds()).get(queue)


def _report(
    queue: str, done: str, workers: Sequence[str], hold: "Hold | None", *, as_json: bool
) -> None:
    if as_json:
        print_json({
            "queue": queue,
            "paused": hold is not None and hold.paused,
            "until": hold.until if hold is not None else None,
            "rate": hold.rate if hold is not None else None,
            "workers": list(workers),
        })  # fmt: skip
        return
    followed = f"{len(workers)} workers follow" if len(workers) != 1 else "1 worker follows"
    if not workers:
        followed = "no worker has answered; those that start later follow"
    say(f"{queue}: {done}; {followed}")
