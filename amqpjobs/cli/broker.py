"""``amqpjobs broker``: the embedded broker by itself. Changes when the way of showing it does."""

import asyncio
import errno
import json
import signal
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from amqpjobs.cli.app_option import JsonOption
from amqpjobs.cli.output import console, say, table_of
from amqpjobs.errors import ConfigurationError
from amqpjobs.telemetry.terminal import is_terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from amqpjobs.broker.embedded import Broker
    from amqpjobs.broker.embedded.model.queues import Queue

COLUMNS = ("queue", "ready", "unacked", "consumers", "in/s", "out/s")

INTERVAL = 0.5
"""Seconds between two pictures of the table."""

EVERYBODY = "It lets every user in, to every virtual host, with whatever password."

WHAT_IT_IS = "in memory, for development and tests; production is RabbitMQ"


def broker(
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port on loopback; 0 for a free one.")
    ] = 5672,
    profile: Annotated[
        str, typer.Option("--profile", help="RabbitMQ version to emulate: 3.10 or 4.3.")
    ] = "4.3",
    accept: Annotated[
        str,
        typer.Option(
            "--accept",
            help="Who is let in: 'named' (guest, to virtual host /), or 'any' user, password and "
            "virtual host.",
        ),
    ] = "named",
    as_json: JsonOption = False,
) -> None:
    """Run a broker for development, in memory, until Ctrl-C.

    On loopback only, IPv4 and IPv6; nothing to install. Where no URL is configured, amqpjobs looks
    for a broker at port 5672 of this machine, and finds this one. What is in its queues is gone
    when it ends. On a terminal it shows its queues; with --json it prints one line when it is
    ready. With --accept any a project's own URL works if its host is localhost: each virtual host
    is made when it is opened.
    """
    from amqpjobs.broker.embedded import Broker

    if accept not in ("named", "any"):
        raise ConfigurationError(f"--accept: 'named' or 'any', not {accept!r}")
    try:
        made = Broker(
            profile, host="localhost", port=port, accept="any" if accept == "any" else "named"
        )
    except ValueError as error:
        raise ConfigurationError(f"--profile: {error}") from None
    try:
        asyncio.run(_run(made, as_json=as_json))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise ConfigurationError(
            f"port {port} is taken: another broker is there already, such as RabbitMQ; use that "
            "one, or give --port, and AMQPJOBS_URL to those who are to find this one"
        ) from None


async def _run(broker: "Broker", *, as_json: bool) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with broker:
        _announce(broker, as_json=as_json)
        if is_terminal(sys.stdout) and not as_json:
            await _show(broker, stopped)
        else:
            await stopped.wait()
    say("stopped; what was in the queues is gone")


def _announce(broker: "Broker", *, as_json: bool) -> None:
    release = broker.profile.release
    if as_json:
        said = {
            "url": broker.url,
            "port": broker.port,
            "profile": release,
            "accept": broker.access.accept,
        }
        sys.stdout.write(json.dumps(said) + "\n")
    else:
        welcome = f"{EVERYBODY}\n" if broker.access.any_user else ""
        sys.stdout.write(
            f"a broker for development at {broker.url}\n"
            f"It acts as RabbitMQ {release}: {WHAT_IT_IS}. Ctrl-C stops it.\n{welcome}"
        )
    sys.stdout.flush()


async def _show(broker: "Broker", stopped: asyncio.Event) -> None:
    """The queues as they are, again and again. The broker shares this event loop: little of it."""
    from rich.live import Live

    rates = Rates()
    with Live(console=console(), auto_refresh=False, transient=True) as live:
        while not stopped.is_set():
            live.update(_picture(broker, rates), refresh=True)
            try:
                async with asyncio.timeout(INTERVAL):
                    await stopped.wait()
            except TimeoutError:
                continue


def _picture(broker: "Broker", rates: "Rates") -> Any:
    from rich.console import Group
    from rich.text import Text

    now = asyncio.get_running_loop().time()
    rows = rates.rows_of(broker, now)
    connections = f"{len(broker.connections)} connections"
    if not rows:
        return Text(f"\n{connections}, no queues yet")
    return Group(Text(f"\n{connections}"), table_of(rows, COLUMNS))


def _queues(broker: "Broker") -> "Iterator[tuple[str, Queue]]":
    """All queues, with their names; behind that of their virtual host where it is another one."""
    for vhost in broker.virtual_hosts.values():
        place = "" if vhost is broker.virtual_host else f"{vhost.name}: "
        for name, queue in vhost.queues.items():
            yield f"{place}{name}", queue


class Rates:
    """Rows of queues, with what went in and out a second since the last look."""

    def __init__(self) -> None:
        self._before: dict[str, tuple[float, int, int]] = {}

    def rows_of(self, broker: "Broker", now: float) -> list[dict[str, Any]]:
        """All queues by name; at ``now`` seconds."""
        before, self._before = self._before, {}
        rows = []
        for name, queue in sorted(_queues(broker)):
            entered, left = queue.entered, queue.entered - queue.ready - queue.unacked
            self._before[name] = now, entered, left
            then, entered_then, left_then = before.get(name, (now, entered, left))
            seconds = now - then
            rows.append({
                "queue": name, "ready": queue.ready, "unacked": queue.unacked,
                "consumers": len(queue.consumers),
                "in/s": round(max(0, entered - entered_then) / seconds) if seconds else None,
                "out/s": round(max(0, left - left_then) / seconds) if seconds else None,
            })  # fmt: skip
        return rows
