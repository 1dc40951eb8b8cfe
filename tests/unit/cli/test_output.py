"""What others wrote is shown as it is: no markup, no links, nothing that acts on a terminal."""

import ast
import asyncio
import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

import amqpjobs
from amqpjobs.cli import output
from amqpjobs.cli.dead.running import _Last, problems, progress, report
from amqpjobs.cli.status import _follow_on_terminal, _line, _show
from amqpjobs.client.deadletters import Moved
from amqpjobs.demo.screen import Lines, Terminal
from amqpjobs.demo.show import Shown
from amqpjobs.state.status.values import JobStatus

HOSTILE = (
    "[/b] [link=http://evil.example]x[/link] [bold]y[/] [/] :bomb: [@click=app.bell]z "
    "\x1b]8;;http://evil.example\x1b\\here\x1b[2J\x9b31m\u202e\u2028"
)
SHOWN = "[/b] [link=http://evil.example]x[/link] [bold]y[/] [/] :bomb:"

ACTING = ("\x1b", "\x9b", "\u202e", "\u2028")


def harmless(text: str) -> bool:
    # What rich itself writes on a terminal is colours and the cursor, never a link.
    return not any(each in text for each in ACTING)


def status(**more: object) -> JobStatus:
    told = {"job": HOSTILE, "queue": HOSTILE, "worker": HOSTILE, "error": HOSTILE, **more}
    return JobStatus(id=HOSTILE, state="dead", attempt=1, **told)


class Watched:
    """An app whose job ends with a hostile error."""

    async def watch(self, job_id):
        yield status()


async def follow(app):
    return await _follow_on_terminal(app, HOSTILE)


def rows() -> None:
    output.print_rows([{"a": HOSTILE, "b": 1}], ["a", "b"], as_json=False, empty="")


def as_json() -> None:
    output.print_rows([{"a": HOSTILE, HOSTILE: 1}], ["a"], as_json=True, empty="")


def moved() -> Moved:
    found = Moved()
    found.succeed(HOSTILE)
    found.errors[HOSTILE] = 1
    found.missing = found.absent = (HOSTILE,)
    return found


def questions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    output.agrees(f"Discard {HOSTILE}?", default=False)


WAYS = {
    "tables": lambda _: rows(),
    "json": lambda _: as_json(),
    "messages": lambda _: output.say(f"amqpjobs: {HOSTILE}"),
    "status --follow": lambda _: asyncio.run(follow(Watched())),
    "status": lambda _: _show(status(detail=HOSTILE, result={HOSTILE: HOSTILE}, has_result=True)),
    "status --follow without a terminal": lambda _: sys.stdout.write(_line(status())),
    "dead replay": lambda _: report(moved(), "replayed", "text"),
    "what stayed": lambda _: [output.say(line) for line in problems(moved())],
    "questions": questions,
    "demo": lambda _: Lines(sys.stdout.write)._say(HOSTILE),
}


@pytest.mark.parametrize("way", WAYS)
def test_hostile_texts_are_shown_and_do_nothing(way, capsys, monkeypatch):
    """Brackets that do not fit end no command, and no link can be clicked."""
    WAYS[way](monkeypatch)
    said = capsys.readouterr()
    text = said.out + said.err
    assert harmless(text), ascii(text)
    assert SHOWN in text.replace("\n", "")


class OnTerminal(io.StringIO):
    def isatty(self):
        return True


def test_the_progress_of_a_command_may_have_any_name(monkeypatch):
    """A terminal shows it while it runs."""
    stream = OnTerminal()
    monkeypatch.setattr("sys.stderr", stream)
    with progress("replay [/x]", last := _Last()):
        last.set(moved())
    assert "replay [/x]" in stream.getvalue()


def test_the_photographs_of_the_demo_may_have_any_name():
    """People put files of any name into it."""

    class Show:
        shown = (Shown("1", f"{HOSTILE}.jpg", "dead", error=HOSTILE, ended=True),)
        page = "http://[::1]:8000/[/x]"

    stream = io.StringIO()
    terminal = Terminal()
    terminal._console = Console(file=stream, width=2000, markup=False, emoji=False)
    terminal.ready(Show())
    terminal._console.print(terminal._picture(Show()))
    assert SHOWN in stream.getvalue()
    assert "http://[::1]:8000/[/x]" in stream.getvalue()
    assert harmless(stream.getvalue())


def calls(name: str) -> list[tuple[Path, ast.Call]]:
    """The calls of a function of that name in what talks to people."""
    folder = Path(amqpjobs.__file__).parent
    found: list[tuple[Path, ast.Call]] = []
    for path in [*folder.glob("cli/**/*.py"), *folder.glob("demo/*.py")]:
        found += [
            (path, node)
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == name
        ]
    return found


def test_no_console_and_no_column_takes_texts_for_markup():
    """So that the next command does not, either: `output.console` and `output.text_column`."""
    for name in ("Console", "TextColumn"):
        made = calls(name)
        assert made
        for path, call in made:
            told = {key.arg: getattr(key.value, "value", None) for key in call.keywords}
            assert told.get("markup") is False, f"{path}: {name} at line {call.lineno}"
    for name in ("Progress", "Live"):
        for path, call in calls(name):
            assert "console" in {key.arg for key in call.keywords}, f"{path}:{call.lineno}"
