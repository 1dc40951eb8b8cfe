"""``amqpjobs limits``: who holds which slot of a limit, and who waits.

Changes when a command does.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from amqpjobs.cli.app_option import AppOption, JsonOption, UrlOption, load_app
from amqpjobs.cli.output import agrees, moment, print_json, print_rows, say
from amqpjobs.errors import ConfigurationError

if TYPE_CHECKING:
    from amqpjobs.app import App
    from amqpjobs.state.limits.looking import KeyHeld
    from amqpjobs.state.memory import Memory

T = TypeVar("T")

group = typer.Typer(
    help="Look at limits and locks: who holds a slot, how many wait.",
    no_args_is_help=True,
)

KeyArgument = Annotated[str, typer.Argument(help="As `limits list` shows it.", show_default=False)]

COLUMNS = ("key", "held", "waiting", "longest_wait", "oldest_slot")
SLOT_COLUMNS = ("job", "job_id", "worker", "token", "since", "lease_until")


@group.command("list")
def list_(app: AppOption = None, as_json: JsonOption = False, url: UrlOption = None) -> None:
    """List the keys of limits, and the locks, that are held or waited for."""
    found = _run(load_app(app, url=url), lambda memory: _look(memory, None))
    if as_json:
        print_json([asdict(each) for each in found])
        return
    rows = [
        {
            "key": each.key,
            "held": len(each.slots),
            "waiting": each.waiting,
            "longest_wait": moment(each.oldest),
            "oldest_slot": moment(min((slot.since for slot in each.slots), default=None)),
        }
        for each in found
    ]
    print_rows(rows, COLUMNS, as_json=False, empty="nothing is held, and nothing waits")


@group.command()
def show(
    key: KeyArgument, app: AppOption = None, as_json: JsonOption = False, url: UrlOption = None
) -> None:
    """Show who holds the slots of a key. Exits with 1 if nobody does."""
    found = _run(load_app(app, url=url), lambda memory: _look(memory, key))
    if as_json:
        print_json(asdict(found[0]) if found else None)
    elif found:
        rows = [_row(each) for each in asdict(found[0])["slots"]]
        print_rows(rows, SLOT_COLUMNS, as_json=False, empty="no slot is held")
        if found[0].waiting:
            say(f"{found[0].waiting} jobs wait for it")
    else:
        say(f"{key}: nothing is held, and nothing waits")
    if not found:
        raise typer.Exit(1)


def _row(slot: dict[str, Any]) -> dict[str, Any]:
    since, until = moment(slot.pop("since")), moment(slot.pop("until"))
    return {**slot, "since": since, "lease_until": until}


@group.command()
def release(
    key: KeyArgument,
    app: AppOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Free the slots of a key, whoever holds them, and wake the jobs that wait. Asks first.

    A run that goes on is not ended: another one starts beside it. What the old one then writes with
    its fencing token is refused.
    """
    loaded = load_app(app, url=url)
    found = _run(loaded, lambda memory: _look(memory, key))
    held = len(found[0].slots) if found else 0
    if held and not yes:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise ConfigurationError("not a terminal: pass --yes to release without confirmation")
        slots = "one slot" if held == 1 else f"{held} slots"
        if not agrees(f"Free {slots} of {key!r}, although jobs may run?", default=False):
            say("nothing was released")
            raise typer.Exit(1)
    freed = _run(loaded, lambda memory: _free(memory, key)) if held else 0
    if as_json:
        print_json({"key": key, "released": freed})
    else:
        say(f"{key}: {freed} released")
    if not freed:
        raise typer.Exit(1)


async def _look(memory: "Memory", key: str | None) -> "list[KeyHeld]":
    from amqpjobs.state.limits.looking import look

    return await look(memory, key)


async def _free(memory: "Memory", key: str) -> int:
    from amqpjobs.state.limits.looking import free_key

    return await free_key(memory, key)


def _run(app: "App", work: "Callable[[Memory], Awaitable[T]]") -> T:
    from amqpjobs.state.store.engine import missing

    try:
        from amqpjobs.state.memory import memory_of
        from amqpjobs.state.store import durable as _  # noqa: F401 - whether it can be used
    except ImportError as error:
        raise missing(error) from error

    async def within() -> T:
        memory = memory_of(app.client)
        try:
            return await work(memory)
        finally:
            await memory.close()

    return asyncio.run(within())
