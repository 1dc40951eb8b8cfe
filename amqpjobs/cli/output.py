"""What commands print: data on stdout, tables for people, JSON for programs; messages on stderr.

Changes when the form of the output does.
"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from amqpjobs.jsontext import harmless

if TYPE_CHECKING:
    from rich.progress import TextColumn
    from rich.table import Table


def print_json(data: object) -> None:
    """One JSON document."""
    text = json.dumps(data, indent=2, default=str, ensure_ascii=False)
    # Half of a surrogate pair, which JSON may hold and UTF-8 may not, goes as its escape.
    sys.stdout.write(harmless(text).encode(errors="backslashreplace").decode() + "\n")


def print_rows(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool, empty: str
) -> None:
    """A table, or the rows as a JSON list.

    Args:
        rows: the data; missing values are shown as ``-``.
        columns: which keys, in order.
        as_json: JSON in place of a table; then all keys of the rows.
        empty: what to tell a person when there are none.
    """
    if as_json:
        print_json(list(rows))
    elif rows:
        console().print(table_of(rows, columns))
    else:
        say(empty)


def table_of(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> "Table":
    """A rich table; numbers to the right."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    rows = list(rows)
    for column in columns:
        numbers = all(isinstance(row.get(column), int | float | None) for row in rows)
        table.add_column(column, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        cells = (row.get(column) for column in columns)
        table.add_row(*(Text("-" if cell is None else printable(str(cell))) for cell in cells))
    return table


def printable(text: str) -> str:
    """The text with an escape in place of each character that would act on a terminal: strangers
    write ids and messages."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


def moment(seconds: float | None) -> str | None:
    """A time as people read it, in UTC; seconds since the epoch where no calendar has it."""
    if seconds is None:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return f"{seconds:.0f} s since the epoch"


def console() -> Any:
    """Rich's console on stdout; honours NO_COLOR and TERM. Texts are shown as they are: brackets
    and colons in what others wrote are no markup, no links and no emoji."""
    from rich.console import Console

    # Without a terminal nobody's window is narrow: rows stay on one line, for grep.
    width = None if sys.stdout.isatty() else 240
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
