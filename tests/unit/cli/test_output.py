"""What others wrote is shown as it is: no markup, no links, nothing that acts on a terminal."""

import ast
import asyncio
import io
import re
import sys
from pathlib import Path

import pytest
from rich.console import Console

import amqpjobs
from amqpjobs.cli import output, queues
from amqpjobs.cli.app_option import load_app
from amqpjobs.cli.dead.rows import mark as dead_mark
from amqpjobs.cli.dead.running import _Last, problems, progress, report
from amqpjobs.cli.status import _follow_on_terminal, _line, show_status
from amqpjobs.client.deadletters import Moved
from amqpjobs.demo.screen import Lines, Terminal
from amqpjobs.demo.show import Shown
from amqpjobs.jobs.message.status import JobStatus

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
    return JobStatus(id=HOSTILE, state="failed", attempt=1, **told)


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
    "status": lambda _: show_status(
        status(detail=HOSTILE, result={HOSTILE: HOSTILE}, has_result=True)
    ),
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
        shown = (Shown("1", f"{HOSTILE}.jpg", "failed", error=HOSTILE, ended=True),)
        page = "http://[::1]:8000/[/x]"

    stream = io.StringIO()
    terminal = Terminal()
    terminal._console = Console(file=stream, width=2000, markup=False, emoji=False)
    terminal.ready(Show())
    terminal._console.print(terminal._picture(Show()))
    assert SHOWN in stream.getvalue()
    assert "http://[::1]:8000/[/x]" in stream.getvalue()
    assert harmless(stream.getvalue())


NOW = 1_800_000_000.0


def terminal_of(monkeypatch):
    """A person looks, at a time that stands still."""
    stream = OnTerminal()
    monkeypatch.setattr("sys.stdout", stream)
    monkeypatch.setattr("time.time", lambda: NOW)
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "200")
    return stream


def test_a_person_sees_how_long_ago_it_was(monkeypatch):
    """And a program the time itself."""
    at_terminal = terminal_of(monkeypatch)
    row = {"time": output.moment(NOW - 200), "due": output.moment(NOW + 7300)}
    output.print_rows([row], ("time", "due"), as_json=False, empty="")
    assert "3 min ago" in at_terminal.getvalue()
    assert "in 2 h" in at_terminal.getvalue()
    assert output.shown_whole(row["time"]) == "2027-01-15T07:56:40+00:00 (3 min ago)"
    at_terminal.truncate(0)
    output.print_rows([row], ("time", "due"), as_json=True, empty="")
    assert '"time": "2027-01-15T07:56:40+00:00"' in at_terminal.getvalue()


def test_without_a_terminal_there_are_times_and_no_colours(capsys, monkeypatch):
    """For scripts, which have seen them so far."""
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    output.print_rows(
        [{"time": output.moment(NOW)}], ("time",), as_json=False, empty="", mark=lambda *_: "red"
    )
    assert capsys.readouterr().out.split() == ["time", "2027-01-15T08:00:00+00:00"]


QUEUE = {"queue": "q", "exists": True, "ready": 0, "consumers": 1, "dead": 0, "parked": 0}


@pytest.mark.parametrize(
    ("more", "marked"),
    [
        ({}, {}),
        ({"ready": 9}, {}),
        ({"dead": 2}, {"dead": "red"}),
        ({"parked": 2}, {"parked": "yellow"}),
        ({"state": "paused"}, {"state": "yellow"}),
        ({"consumers": 0}, {}),
        ({"consumers": 0, "ready": 1}, {"consumers": "yellow"}),
        ({"exists": False, "ready": None, "consumers": None}, {"queue": "red"}),
    ],
)
def test_colours_of_queues(more, marked):
    """Where somebody must look, and nowhere else."""
    row = QUEUE | more
    found = {column: queues.mark(column, row) for column in queues.COLUMNS}
    assert {column: colour for column, colour in found.items() if colour} == marked


def test_colours_reach_the_terminal(monkeypatch):
    """Unless NO_COLOR is set."""
    at_terminal = terminal_of(monkeypatch)
    for colours in (True, False):
        output.print_rows([QUEUE | {"dead": 2}], queues.COLUMNS, as_json=False, empty="",
                          mark=queues.mark)  # fmt: skip
        found = re.search(r"\x1b\[31m *2\x1b", at_terminal.getvalue())
        assert (found is not None) == colours
        at_terminal.truncate(0)
        monkeypatch.setenv("NO_COLOR", "1")


def test_a_queue_says_when_its_numbers_changed(monkeypatch):
    """From the first look on: one whose jobs wait for long stands out."""
    terminal_of(monkeypatch)
    changes = queues.Changes()
    [row] = changes.noted([QUEUE | {"ready": 5}])
    assert row["changed"] is None
    [row] = changes.noted([QUEUE | {"ready": 4}])
    monkeypatch.setattr("time.time", lambda: NOW + 185)
    [row] = changes.noted([QUEUE | {"ready": 4}])
    assert output.shown(row["changed"]) == "3 min ago"


def test_what_failed_lately_is_marked(monkeypatch):
    """It may go on failing."""
    terminal_of(monkeypatch)
    row = {"first": output.moment(NOW - 90_000), "last": output.moment(NOW - 60)}
    assert [dead_mark(column, row) for column in ("first", "last", "why")] == [None, "yellow", None]
    assert dead_mark("last", {"last": row["first"]}) is None
    assert dead_mark("last", {"last": None}) is None


@pytest.mark.parametrize(("state", "code"), [("failed", "31"), ("retrying", "33"), ("done", None)])
def test_a_status_is_marked_where_it_is_bad(state, code, monkeypatch):
    """With the time, and how long ago that was."""
    at_terminal = terminal_of(monkeypatch)
    show_status(
        JobStatus(id="7", job="send", queue="q", state=state, attempt=1, ended_at=NOW - 125)
    )
    text = at_terminal.getvalue()
    assert "(2 min ago)" in text
    assert (f"\x1b[{code}m" in text) if code else ("\x1b" not in text)


class OnlyWrite:
    """What a program may have put in place of stdout."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text
        return len(text)


@pytest.mark.parametrize("as_json", [True, False])
def test_a_stdout_of_the_programs_own_gets_the_output(as_json, monkeypatch):
    """It needs no more than a ``write``; commands complete it when they have imported the app."""
    own = OnlyWrite()
    monkeypatch.setattr("sys.stdout", own)
    load_app("tests.support.jobs:app")
    output.print_rows([QUEUE], queues.COLUMNS, as_json=as_json, empty="")
    sys.stdout.flush()
    assert "consumers" in own.text
    completed = sys.stdout
    output.complete_stdout()
    assert sys.stdout is completed


def test_a_stdout_that_has_all_is_left_alone(monkeypatch):
    """It is the program's."""
    at_terminal = terminal_of(monkeypatch)
    output.complete_stdout()
    assert sys.stdout is at_terminal


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
