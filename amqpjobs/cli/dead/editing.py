"""``amqpjobs dead edit``: edits a body in an editor, and requeues it if it fits its job."""

import asyncio
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import typer

from amqpjobs.cli.app_option import AppOption, JsonOption, UrlOption, load_app
from amqpjobs.cli.dead.looking import warn
from amqpjobs.cli.dead.options import (
    OneArgument,
    ParkedOption,
    QueuesOption,
    ToOption,
    UnroutableOption,
    bench_of,
    selection_of,
)
from amqpjobs.cli.dead.rows import compact, pretty
from amqpjobs.cli.output import agrees, print_json, say
from amqpjobs.errors import AmqpJobsError, ConfigurationError, DecodeError
from amqpjobs.telemetry.safe_text import printable, text_in

if TYPE_CHECKING:
    from amqpjobs.client.deadletters import DeadLetters, Letter

Encode: TypeAlias = Callable[[str], bytes]
"""Makes a body of a text."""

BOM = "\ufeff"
"""Some editors write it; JSON has none."""


def edit(
    which: OneArgument,
    app: AppOption = None,
    queues: QueuesOption = None,
    to: ToOption = None,
    parked: ParkedOption = False,
    unroutable: UnroutableOption = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Edit the arguments of a dead letter, and requeue it.

    In $VISUAL or $EDITOR. It is requeued if they fit its job. While the editor is open nothing is
    held. What is left unchanged is not sent.
    """
    bench = bench_of(load_app(app, url=url), queues, parked=parked, unroutable=unroutable)
    editor = _editor()
    letter = _find(bench, which)
    text, encode = _editable(bench, letter)
    path = _write(text)
    body = _edited(editor, path, bench, letter, encode)
    if body is None:
        path.unlink()
        say("unchanged: nothing was sent")
        return
    try:
        sent = asyncio.run(bench.replace(letter, body, to=to))
    except (AmqpJobsError, KeyboardInterrupt):
        say(f"your text is in {path}")
        raise
    if not sent:
        say(
            "amqpjobs: the dead letter is gone: another command replayed or removed it; "
            f"nothing was sent. Your text is in {path}"
        )
        raise typer.Exit(1)
    path.unlink()
    target = to or letter.target
    if as_json:
        print_json({"id": letter.id, "job": letter.job, "queue": target})
    else:
        sys.stdout.write(f"sent to {printable(target)}\n")


def _find(bench: "DeadLetters", which: str) -> "Letter":
    look = asyncio.run(bench.look(selection_of([which], None, None, None, None, None)))
    warn(look)
    exact = [letter for letter in look.letters if letter.id == which] or look.letters
    if not exact:
        say(f"amqpjobs: no {which} here")
        raise typer.Exit(1)
    if len(exact) > 1:
        ids = ", ".join(printable(letter.id or "-") for letter in exact[:5])
        raise ConfigurationError(f"{which!r} is {len(exact)} letters: {ids}; one can be edited")
    return exact[0]


def _editor() -> list[str]:
    given = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if given:
        return shlex.split(given)
    found = next((name for name in ("editor", "vi", "nano") if shutil.which(name)), None)
    if found is None:
        raise ConfigurationError("there is no editor here: set VISUAL or EDITOR")
    return [found]


def _editable(bench: "DeadLetters", letter: "Letter") -> tuple[str, Encode]:
    """A body as text, and what makes a body of that: JSON with line breaks, the arguments in a
    format that is no text as such JSON, or the text as it is."""
    from amqpjobs.client.deadletters.dead_letters import editing

    bodies = editing(bench)
    arguments = bodies.arguments(letter)
    if arguments is not None and (shown := pretty(arguments)) is not None:
        return shown, lambda text: bodies.body(letter, compact(text))
    if bodies.is_json(letter) and (shown := pretty(letter.readable_body)) is not None:
        return shown, compact
    whole = text_in(letter.readable_body)
    if whole is None:
        raise ConfigurationError(
            "its body is no text: `amqpjobs dead show --raw` writes it as it is; export it, "
            "fix the file, and import it"
        )
    return whole, lambda text: text.removesuffix("\n").encode()


def _write(text: str) -> Path:
    """The body in a file that nobody else can read."""
    handle, name = tempfile.mkstemp(prefix="amqpjobs-", suffix=".json")
    with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
        file.write(text + "\n")
    return Path(name)


def _edited(
    editor: list[str], path: Path, bench: "DeadLetters", letter: "Letter", encode: Encode
) -> bytes | None:
    """The body that fits the job, or None if nothing was changed.

    Raises:
        typer.Exit: it does not fit, and the user gives up; the file is still there.
    """
    before = path.read_text(encoding="utf-8")
    while True:
        _run(editor, path)
        try:
            text = path.read_text(encoding="utf-8").removeprefix(BOM)
            if text.strip() == before.strip():
                return None
            body = encode(text)
            bench.check_body(letter, body)
            return body
        except UnicodeDecodeError:
            problem = "it is not UTF-8"
        except (DecodeError, AmqpJobsError) as error:
            problem = str(error)
        say(f"amqpjobs: it does not fit {letter.job or 'the job'}: {printable(problem)}")
        asked = sys.stdin.isatty() and sys.stderr.isatty()
        if not asked or not agrees("Edit it again?", default=True):
            say(f"nothing was sent; your text is in {path}")
            raise typer.Exit(1)


def _run(editor: list[str], path: Path) -> None:
    try:
        done = subprocess.run([*editor, str(path)], check=False)  # noqa: S603 - the user's editor
    except OSError as error:
        raise ConfigurationError(f"the editor {editor[0]!r} does not start: {error}") from None
    if done.returncode:
        say(
            f"amqpjobs: the editor ended with status {done.returncode}: nothing was sent; your "
            f"text is in {path}"
        )
        raise typer.Exit(1)
