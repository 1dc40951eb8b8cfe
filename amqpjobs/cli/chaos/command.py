"""``amqpjobs chaos``: what the fault suite does, with a user's own jobs on a development broker.

Changes when a person can ask for more.
"""

import asyncio
import ipaddress
import secrets
import shutil
import signal
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from amqpjobs.cli.app_option import AppOption, JsonOption, UrlOption, load_app
from amqpjobs.cli.duration_option import duration_option
from amqpjobs.cli.output import print_json, print_rows, say
from amqpjobs.client.client import registry_of
from amqpjobs.errors import ConfigurationError, DecodeError, InvalidArguments
from amqpjobs.jobs.job import message_from
from amqpjobs.jobs.queue.queue import lanes_of

if TYPE_CHECKING:
    from amqpjobs.app import App
    from amqpjobs.jobs.message.message import Message
    from amqpjobs.jobs.queue.queue import Queue


def chaos(
    queue: Annotated[
        str, typer.Option("--queue", "-q", help="The queue to consume.", show_default=False)
    ],
    app: AppOption = None,
    job: Annotated[
        str | None,
        typer.Option("--job", help="Enqueue this job throughout the run; default: run what waits."),
    ] = None,
    args: Annotated[str, typer.Option("--args", "-a", help="Its arguments as JSON.")] = "{}",
    count: Annotated[
        int, typer.Option("--count", "-n", min=1, help="How many jobs to enqueue.")
    ] = 1_000,
    workers: Annotated[int, typer.Option("--workers", "-w", min=1, help="At once.")] = 3,
    concurrency: Annotated[
        int, typer.Option("--concurrency", "-c", min=1, help="Jobs at once in each worker.")
    ] = 10,
    seconds: Annotated[
        float, duration_option("--seconds", "How long faults go on.", least=1)
    ] = 30.0,
    rounds: Annotated[
        int | None, typer.Option("--rounds", min=1, help="Number of faults, instead of a duration.")
    ] = None,
    patience: Annotated[
        float, duration_option("--patience", "For the jobs to end afterwards.", least=1)
    ] = 120.0,
    seed: Annotated[
        int | None, typer.Option("--seed", help="The seed of an earlier run, to repeat it.")
    ] = None,
    yes_really: Annotated[
        bool, typer.Option("--yes-really", help="Allow a broker on another machine.")
    ] = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Kill, freeze and restart workers while they run your jobs.

    It counts how the jobs ended. Every job must end, no more often than the workers' deaths and
    lost connections explain, and no restart may take longer than its budget: else the exit status
    is 1. Jobs run for real, and some run twice. For a development broker, and a queue that nobody
    else consumes.
    """
    from amqpjobs.cli.chaos.run import Chaos, Plan

    loaded = load_app(app, url=url)
    [chosen] = loaded.client.runtime.registry.choose([queue])
    _refuse_elsewhere(loaded, yes_really=yes_really)
    message = None if job is None else _message(loaded, chosen, job, args)
    waiting = asyncio.run(_prepare(loaded, chosen, look=message is None))
    if message is None and not waiting:
        raise ConfigurationError(f"nothing waits in {queue!r}: give --job NAME --args JSON")
    messages = [] if message is None else [_again(message) for _ in range(count)]
    plan = Plan(
        workers, concurrency, seconds, rounds, patience,
        secrets.randbelow(1_000_000) if seed is None else seed,
    )  # fmt: skip
    folder = Path(tempfile.mkdtemp(prefix="amqpjobs-chaos-"))
    say(f"seed {plan.seed}, workers' logs in {folder}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        findings = Chaos(loaded, app, chosen, plan, folder).run(waiting, messages)
    except KeyboardInterrupt:
        say("interrupted; the workers are ended, what they had is in the queue again")
        raise typer.Exit(130) from None
    if as_json:
        print_json({**findings.as_json(), "queue": queue, "logs": str(folder)})
    else:
        _print(findings)
    if not findings.kept:
        say(f"a promise was broken: seed {plan.seed}, logs in {folder}")
        raise typer.Exit(1)
    if not findings.crashed:
        shutil.rmtree(folder, ignore_errors=True)


def _print(findings: Any) -> None:
    print_rows(
        findings.promises(), ("promise", "found", "allowed", "kept"), as_json=False, empty=""
    )
    say(
        f"{findings.followed} jobs: {findings.done} done, {findings.dead} dead, {findings.expired} "
        f"expired, {findings.parked} parked. Workers: {findings.kills} killed, {findings.freezes} "
        f"frozen ({findings.proxied} of these behind a proxy), {findings.restarts} restarted, "
        f"{findings.crashed} ended by themselves, "
        f"{findings.cut_off} cut off from RabbitMQ"
    )
    if findings.unknown:
        say(f"{findings.unknown} more jobs had no id, and could not be followed")
    for job in findings.lost[:20]:
        say(f"lost: {job}")


def _refuse_elsewhere(app: "App", *, yes_really: bool) -> None:
    hosts = {node.host for node in app.settings.broker_url.nodes}
    if not yes_really and not all(map(_on_loopback, hosts)):
        raise ConfigurationError(
            f"{app.settings.safe_url} is not on this machine, and this kills workers in the middle "
            "of their jobs: if it is a broker for development, say --yes-really"
        )


def _on_loopback(host: str) -> bool:
    try:
        found = {str(address[4][0]) for address in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return bool(found) and all(ipaddress.ip_address(address).is_loopback for address in found)


def _message(app: "App", queue: "Queue", name: str, args: str) -> "Message[object]":
    from amqpjobs.jobs.job import Job

    definition = registry_of(app).find(name)
    if definition.queue is not queue:
        raise ConfigurationError(
            f"job {name!r} goes to {definition.queue.name!r}: give --queue {definition.queue.name}"
        )
    try:
        return message_from(Job[..., object, object](definition), args.encode())
    except DecodeError as error:
        raise InvalidArguments(f"--args: {error}", job=name) from error


def _again(message: "Message[object]") -> "Message[object]":
    """The same call, under another id."""
    from dataclasses import replace

    from amqpjobs.jobs.message.ids import new_job_id

    return replace(message, id=new_job_id())


async def _prepare(app: "App", queue: "Queue", *, look: bool) -> "list[str | None]":
    """Declare the queue, see that nobody consumes it, and the ids of what waits there."""
    from amqpjobs.broker.rabbitmq.declarer import Declarer
    from amqpjobs.broker.rabbitmq.inspection.queues import connected, depths, peek
    from amqpjobs.cli.chaos.run import MOST

    lanes = [lane.queue for lane in lanes_of(queue)]
    async with connected(app.settings, "chaos") as wire:
        async with Declarer(wire) as declarer:
            await declarer.apply(registry_of(app).topology)
        found = await depths(wire, lanes, app.settings)
        consumers = sum(depth.consumers for depth in found.values() if depth is not None)
        if consumers:
            raise ConfigurationError(
                f"{queue.name!r} has {consumers} consumers already: stop them, or "
                "what they do is counted as done by this run"
            )
        if not look:
            return []
        if sum(depth.ready for depth in found.values() if depth is not None) > MOST:
            raise ConfigurationError(f"more than {MOST} jobs wait in {queue.name!r}: too many")
        return [
            found.properties.message_id for lane in lanes for found in await peek(wire, lane, MOST)
        ]
