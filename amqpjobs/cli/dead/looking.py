"""``amqpjobs dead list`` and ``dead show``. Looking takes nothing out."""

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from amqpjobs.cli.app_option import AppOption, JsonOption, UrlOption, load_app
from amqpjobs.cli.dead.options import (
    ExceptionOption,
    JobOption,
    ParkedOption,
    QueuesArgument,
    QueuesOption,
    ReasonOption,
    SinceOption,
    UnroutableOption,
    UntilOption,
    bench_of,
    selection_of,
    word_of,
)
from amqpjobs.cli.dead.rows import (
    GROUPS,
    HISTORY,
    LETTERS,
    group_row,
    letter_row,
    mark,
    pretty,
    whole_row,
)
from amqpjobs.cli.output import console, print_json, print_rows, say, shown_whole, table_of
from amqpjobs.jobs.hints import did_you_mean
from amqpjobs.telemetry.safe_text import printable, text_or_size

if TYPE_CHECKING:
    from amqpjobs.client.deadletters import DeadLetters, Letter, Look

SHOWN_AT_ONCE = 100
"""Letters, for who gives only a character or two of an id."""


def list_(
    queues: QueuesArgument = None,
    app: AppOption = None,
    each: Annotated[
        bool, typer.Option("--each", help="One row for each dead letter, oldest first.")
    ] = False,
    limit: Annotated[
        int, typer.Option("--limit", min=1, help="With --each: rows per queue, at most.")
    ] = 100,
    job: JobOption = None,
    reason: ReasonOption = None,
    exception: ExceptionOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    parked: ParkedOption = False,
    unroutable: UnroutableOption = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """List dead letters by error: how many, and when.

    A group is one exception at one place in the code.
    """
    loaded = load_app(app, url=url)
    bench = bench_of(loaded, queues, parked=parked, unroutable=unroutable)
    selection = selection_of(None, job, reason, exception, since, until)
    # A job that the app does not have may have been removed: no error.
    hint = "" if job is None or job in loaded.jobs else did_you_mean(job, loaded.jobs)
    empty = f"no {word_of(parked=parked, unroutable=unroutable)}{hint}"
    if each:
        look = asyncio.run(bench.look(selection, limit=limit, bodies=False))
        rows = [letter_row(letter) for letter in look.letters]
        print_rows(rows, LETTERS, as_json=as_json, empty=empty, mark=mark)
        if look.more:
            say(f"the oldest {limit} of each queue; --limit shows more")
    else:
        look = asyncio.run(bench.groups(selection))
        rows = [group_row(group) for group in look.groups]
        print_rows(rows, GROUPS, as_json=as_json, empty=empty, mark=mark)
    warn(look)


def show(
    which: Annotated[
        str, typer.Argument(help="The job's id, or how it begins, or the id of a group.")
    ],
    queues: QueuesOption = None,
    app: AppOption = None,
    raw: Annotated[bool, typer.Option("--raw", help="Only the body, unchanged.")] = False,
    parked: ParkedOption = False,
    unroutable: UnroutableOption = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Show one dead letter whole.

    Its properties, failure, earlier errors and body. Of a group, the youngest.
    """
    bench = bench_of(load_app(app, url=url), queues, parked=parked, unroutable=unroutable)
    found = asyncio.run(_find(bench, which))
    warn(found)
    if not found.letters:
        say(f"amqpjobs: no {which} among the {word_of(parked=parked, unroutable=unroutable)}")
        raise typer.Exit(1)
    if raw:
        _write_raw(found.letters)
    elif as_json:
        print_json([whole_row(letter) for letter in found.letters])
    else:
        for group in found.groups:
            if group.id == which:
                console().print(table_of([group_row(group)], GROUPS))
                sys.stdout.write("\n")
        for letter in found.letters:
            _print_whole(letter)


async def _find(bench: "DeadLetters", which: str) -> "Look":
    from amqpjobs.client.deadletters import Selection
    from amqpjobs.client.deadletters.letter import is_group

    selection = Selection((which,))
    if not is_group(which):
        look = await bench.look(selection, limit=SHOWN_AT_ONCE)
        if look.more:
            say(f"the oldest {SHOWN_AT_ONCE} of each queue")
        return look
    look = await bench.groups(selection)
    look.letters = [group.example for group in look.groups]
    return look


def _write_raw(letters: "list[Letter]") -> None:
    if len(letters) > 1:
        ids = ", ".join(printable(letter.id or "-") for letter in letters[:5])
        say(f"amqpjobs: --raw shows one dead letter, and {len(letters)} match: {ids}")
        raise typer.Exit(1)
    sys.stdout.flush()
    sys.stdout.buffer.write(letters[0].body)


def _print_whole(letter: "Letter") -> None:
    whole = whole_row(letter)
    history = whole.pop("history")
    for key in ("body", "text", "why"):
        whole.pop(key, None)
    rows = [{"property": k, "value": shown_whole(v)} for k, v in _flat(whole)]
    console().print(table_of(rows, ("property", "value")))
    if history:
        sys.stdout.write("\nearlier runs:\n")
        console().print(table_of(history, HISTORY))
    text = pretty(letter.readable_body) or text_or_size(letter.readable_body)
    sys.stdout.write(f"\n{printable(text)}\n")


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


def warn(gone: Any) -> None:
    """Say what could not be seen, to whoever takes this for all there is."""
    for unseen in gone.unseen:
        say(f"{unseen}")
