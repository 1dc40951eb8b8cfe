"""``amqpjobs topology``: what the app needs on the broker. Changes when looking at it does."""

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from amqpjobs.cli.app_option import AppOption, JsonOption, UrlOption, load_app
from amqpjobs.cli.duration_option import duration_option
from amqpjobs.cli.output import RED, agrees, print_json, print_rows, say
from amqpjobs.client.client import registry_of
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.durations import LONGEST_DELAY
from amqpjobs.jobs.queue.delays import ladder, level_of
from amqpjobs.jobs.queue.permissions import definitions_of, permissions_of
from amqpjobs.jobs.queue.topology import (
    EVENTS_TOPOLOGY,
    RECORDER_TOPOLOGY,
    BindingDeclaration,
    ExchangeDeclaration,
    QueueDeclaration,
    Topology,
    joined,
)
from amqpjobs.jobs.retry import longest_pause
from amqpjobs.telemetry.safe_text import printable

if TYPE_CHECKING:
    from amqpjobs.app import App
    from amqpjobs.broker.rabbitmq.declarer import Finding

group = typer.Typer(
    help="Show, apply or check queues and exchanges; show permissions.",
    no_args_is_help=True,
)

WRONG = ("missing", "different", "left over")
"""States of what is not as it is declared."""

DelayOption = Annotated[
    float | None,
    duration_option(
        "--longest-delay",
        "What the delays must reach; by default the longest pause of the app's retries. Levels "
        "beyond are made when they are first needed.",
        most=LONGEST_DELAY,
    ),
]


RecorderOption = Annotated[
    bool,
    typer.Option(
        "--recorder",
        help="The queue of the recorder, too: for one that may not declare it. Without a recorder "
        "it would fill up, with up to 256 MB.",
    ),
]


@group.command()
def show(
    app: AppOption = None,
    longest_delay: DelayOption = None,
    recorder: RecorderOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show what the app declares. Needs no broker."""
    loaded = load_app(app)
    rows = rows_of(whole_of(loaded, longest_delay, recorder=recorder))
    rows += rows_of(registry_of(loaded).foreign)
    print_rows(rows, ("kind", "name", "arguments"), as_json=as_json, empty="nothing to declare")


@group.command()
def apply(
    app: AppOption = None,
    longest_delay: DelayOption = None,
    recorder: RecorderOption = False,
    prune: Annotated[
        bool,
        typer.Option(
            "--prune",
            help="Then show bindings of the app's queues that it does not declare any more, and "
            "remove them. Asks for confirmation. Needs the management API.",
        ),
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="With --prune: do not ask for confirmation.")
    ] = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Declare what is missing.

    Deletes and changes nothing without --prune. A difference is an error, and so is a missing
    permission, or a queue or an exchange of others that does not exist.
    """
    loaded = load_app(app, url=url)
    whole = whole_of(loaded, longest_delay, recorder=recorder)
    rows = rows_of(whole) + rows_of(registry_of(loaded).foreign)
    asyncio.run(_apply(loaded, whole))
    removed = _prune(loaded, yes=yes) if prune else None
    if as_json:
        print_json(rows if removed is None else {"applied": rows, "removed": removed})
        return
    typer.echo(f"applied: {len(rows)} declarations")
    if removed is not None:
        typer.echo(f"removed: {len(removed)} bindings")


def _prune(app: "App", *, yes: bool) -> list[dict[str, Any]]:
    from amqpjobs.broker.rabbitmq.inspection.bindings import compare_bindings

    findings, left = compare_bindings(app.settings, _declared(app))
    for finding in findings:
        if finding.state == "left over":
            say(f"left over: {printable(finding.entity)}")
    if not left:
        return []
    if not yes:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise ConfigurationError("not a terminal: pass --yes to remove without confirmation")
        if not agrees(f"Remove these {len(left)} bindings?", default=False):
            say("nothing was removed")
            raise typer.Exit(1)
    for stays in asyncio.run(_remove(app, left)):
        left.remove(stays)
        say(
            f"not removed: binding of {stays.target!r} to {stays.exchange!r} by "
            f"{dict(stays.arguments)!r}; remove it in RabbitMQ's management UI"
        )
    return rows_of(Topology((), (), tuple(left)))


async def _remove(app: "App", bindings: "list[BindingDeclaration]") -> "list[BindingDeclaration]":
    from amqpjobs.broker.rabbitmq.inspection.bindings import remove_bindings
    from amqpjobs.broker.rabbitmq.inspection.queues import connected

    async with connected(app.settings, "declare") as wire:
        return await remove_bindings(wire, app.settings, bindings)


@group.command()
def check(app: AppOption = None, as_json: JsonOption = False, url: UrlOption = None) -> None:
    """Compare the broker with the app; exit with 1 if they differ.

    Bindings are compared where the management API answers: a left-over binding still brings events
    that no handler is declared for. `topology apply --prune` removes it.
    """
    loaded = load_app(app, url=url)
    findings = asyncio.run(_check(loaded)) + _bindings(loaded)
    rows = [
        {"entity": f.entity, "state": f.state, "difference": f.difference or None} for f in findings
    ]
    print_rows(
        rows, ("entity", "state", "difference"), as_json=as_json, empty="nothing declared",
        mark=lambda column, row: RED if column == "state" and row[column] in WRONG else None,
    )  # fmt: skip
    if any(f.state in WRONG for f in findings):
        raise typer.Exit(1)


@group.command()
def users(
    app: AppOption = None,
    vhost: Annotated[
        str | None,
        typer.Option(
            "--vhost",
            help="The virtual host, and what the users' names begin with; the app's name if none.",
            show_default=False,
        ),
    ] = None,
    permissions: Annotated[
        bool,
        typer.Option(
            "--permissions",
            help="With --json: without the users, for those that are there. Importing users takes "
            "their passwords away.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the users that the app needs, and their permissions.

    The least permissions for each. Needs no broker.

    --json prints definitions for `rabbitmqctl import_definitions`. The users in them have no
    password: set one with `rabbitmqctl change_password`, or let them log in by certificates.
    """
    loaded = load_app(app)
    place = vhost or loaded.name
    scheduled = loaded.name if registry_of(loaded).schedules else None
    prefix = _prefix_of(place, loaded.name)
    found = permissions_of(
        loaded.queues.values(), prefix, scheduled=scheduled,
        exchanges=registry_of(loaded).routes.exchanges.values(),
    )  # fmt: skip
    if as_json:
        print_json(definitions_of(found, place, users=not permissions))
        return
    typer.echo(f"virtual host {printable(place)}")
    for each in found:
        typer.echo(f"\n{printable(each.user)}")
        for name in ("tags", "configure", "write", "read"):
            typer.echo(f"  {name:9}  {printable(getattr(each, name)) or '-'}")


def _prefix_of(vhost: str, app: str) -> str:
    """Users are the cluster's: those of another virtual host must be others."""
    return vhost if vhost.strip("/") else app


def whole_of(app: "App", longest_delay: float | None, *, recorder: bool = False) -> Topology:
    """The app's topology, with the levels that delays of so many seconds need, and with what
    events need."""
    own = registry_of(app).topology
    if longest_delay is None:
        policies = [
            definition.retry or app.client.runtime.registry.retry
            for definition in app.jobs.values()
        ]
        longest_delay = max((longest_pause(policy) for policy in policies), default=0)
    delays = ladder(range(level_of(min(int(longest_delay), LONGEST_DELAY)) + 1))
    events = RECORDER_TOPOLOGY if recorder else EVENTS_TOPOLOGY
    return joined(joined(own, delays), events)


async def _apply(app: "App", whole: Topology) -> None:
    from amqpjobs.broker.rabbitmq.declarer import Declarer
    from amqpjobs.broker.rabbitmq.inspection.queues import connected

    async with connected(app.settings, "declare") as wire, Declarer(wire) as declarer:
        await declarer.apply(whole, strictly=True)
        # Last: it may be missing, which is an error, and what is the app's is there all the same.
        await declarer.apply(registry_of(app).foreign, strictly=True)


def _declared(app: "App") -> Topology:
    """What the app declares, and what it needs of others."""
    registry = registry_of(app)
    return joined(registry.topology, registry.foreign)


def _bindings(app: "App") -> "list[Finding]":
    """What is missing of the bindings, or left over; or why nobody knows."""
    from amqpjobs.broker.rabbitmq.declarer import Finding
    from amqpjobs.broker.rabbitmq.inspection.bindings import compare_bindings
    from amqpjobs.broker.rabbitmq.inspection.management_api import NotAnswered

    try:
        return compare_bindings(app.settings, _declared(app))[0]
    except NotAnswered as error:
        return [Finding("bindings", "unknown", f"AMQP cannot list them, and {error}")]


async def _check(app: "App") -> "list[Finding]":
    from amqpjobs.broker.rabbitmq.declarer import Declarer
    from amqpjobs.broker.rabbitmq.inspection.queues import connected

    async with connected(app.settings, "declare") as wire, Declarer(wire) as declarer:
        return await declarer.check(_declared(app))


def rows_of(topology: Topology) -> list[dict[str, Any]]:
    """The declarations, in the order in which they are made."""
    rows: list[dict[str, Any]] = [
        {
            "kind": "exchange",
            "name": e.name,
            "arguments": {"type": e.type, **e.arguments, **_foreign(e)},
        }
        for e in topology.exchanges
    ]
    rows += [
        {"kind": "queue", "name": q.name, "arguments": {**q.arguments, **_foreign(q)}}
        for q in topology.queues
    ]
    rows += [
        {
            "kind": "binding",
            "name": b.target,
            "arguments": {"exchange": b.exchange, "routing_key": b.routing_key, **b.arguments},
        }
        for b in topology.bindings
    ]
    return rows


def _foreign(declaration: ExchangeDeclaration | QueueDeclaration) -> dict[str, bool]:
    return {"foreign": True} if declaration.foreign else {}
