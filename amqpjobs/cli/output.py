"""What commands print: data on stdout, tables for people, JSON for programs; messages on stderr.

Changes when the form of the output does.
"""

import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeAlias

from amqpjobs.jobs.durations import ago
from amqpjobs.telemetry.safe_text import harmless, printable
from amqpjobs.telemetry.terminal import is_terminal

if TYPE_CHECKING:
    from rich.progress import TextColumn
    from rich.table import Table

RED = "red"
YELLOW = "yellow"

Mark: TypeAlias = Callable[[str, Mapping[str, Any]], str | None]
"""Called with a column and a row: the colour of that cell, where one must look at it."""


def print_json(data: object) -> None:
    """One JSON document."""
    text = json.dumps(data, indent=2, default=str, ensure_ascii=False)
    # Half of a surrogate pair, which JSON may hold and UTF-8 may not, goes as its escape.
    sys.stdout.write(harmless(text).encode(errors="backslashreplace").decode() + "\n")


def print_rows(
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[str],
    *,
    as_json: bool,
    empty: str,
    mark: Mark | None = None,
) -> None:
    """A table, or the rows as a JSON list.

    Args:
        rows: the data; missing values are shown as ``-``.
        columns: which keys, in order.
        as_json: JSON in place of a table; then all keys of the rows.
        empty: what to tell a person when there are none.
        mark: which cells have a colour, on a terminal.
    """
    if as_json:
        print_json(list(rows))
    elif rows:
        console().print(table_of(rows, columns, mark))
    else:
        say(empty)


def table_of(
    rows: Iterable[Mapping[str, Any]], columns: Sequence[str], mark: Mark | None = None
) -> "Table":
    """A rich table; numbers to the right, and times on a terminal as how long ago they were."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    rows = list(rows)
    for column in columns:
        numbers = all(isinstance(row.get(column), int | float | None) for row in rows)
        table.add_column(column, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        cells = ((shown(row.get(column)), (mark and mark(column, row)) or "") for column in columns)
        table.add_row(*(Text(text, style=style) for text, style in cells))
    return table


class Moment(str):
    """A time, as programs read it: by ISO 8601, in UTC.

    Attributes:
        seconds: since the epoch.
    """

    __slots__ = ("seconds",)

    seconds: float

    @property
    def age(self) -> float:
        """Seconds; below 0 for a time that is to come."""
        return time.time() - self.seconds


def moment(seconds: float | None) -> Moment | None:
    """A time, to be shown; seconds since the epoch where no calendar has it."""
    if seconds is None:
        return None
    try:
        made = Moment(datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds"))
    except (ValueError, OverflowError, OSError):
        made = Moment(f"{seconds:.0f} s since the epoch")
    made.seconds = seconds
    return made


def shown(value: object) -> str:
    """A value in a table: on a terminal a time is how long ago it was."""
    if value is None:
        return "-"
    if isinstance(value, Moment) and is_terminal(sys.stdout):
        return ago(value.age)
    return printable(str(value))


def shown_whole(value: object) -> str:
    """The same, where there is room for the time itself."""
    if isinstance(value, Moment) and is_terminal(sys.stdout):
        return f"{value} ({ago(value.age)})"
    return shown(value)


def complete_stdout() -> None:
    """Give stdout what an object of the program's own in its place may lack: it may have a
    ``write``, and no more."""
    if sys.stdout is not None and not (
        hasattr(sys.stdout, "isatty") and hasattr(sys.stdout, "flush")
    ):
        sys.stdout = _Completed(sys.stdout)


class _Completed:
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def isatty(self) -> bool:
        return is_terminal(self._stream)

    def flush(self) -> None:
        with suppress(AttributeError):
            self._stream.flush()


def console() -> Any:
    """Rich's console on stdout; honours NO_COLOR, FORCE_COLOR and TERM. Texts are shown as they
    are: brackets and colons in what others wrote are no markup, no links and no emoji."""
    from rich.console import Console

    # Without a terminal nobody's window is narrow: rows stay on one line, for grep.
    width = None if is_terminal(sys.stdout) else 240
    return Console(width=width, markup=False, emoji=False, highlight=False)


def text_column(form: str) -> "TextColumn":
    """A column of a progress bar with the texts of others in it. Rich's own takes them for markup,
    and ends the program where brackets do not fit."""
    from rich.progress import TextColumn

    return TextColumn(form, markup=False)


def say(text: str) -> None:
    """A message to the person, on stderr. Where that is closed, or its disk full, there is none."""
    with suppress(OSError, AttributeError):
        sys.stderr.write(printable(text) + "\n")


def agrees(question: str, *, default: bool) -> bool:
    """Ask the person, on stderr: stdout is for data."""
    while True:
        sys.stderr.write(f"{printable(question)} [{'Y/n' if default else 'y/N'}] ")
        sys.stderr.flush()
        line = sys.stdin.readline()
        answer = line.strip().lower()
        if answer in ("y", "yes", "n", "no"):
            return answer.startswith("y")
        if not line:
            return False  # nobody is there any more
        if not answer:
            return default
