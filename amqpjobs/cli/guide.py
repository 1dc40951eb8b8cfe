"""``amqpjobs guide``: the guide in the terminal. Changes when it is listed or shown otherwise.

The pages are the Markdown files of ``amqpjobs/guide``; ``index.md`` there has their order.
"""

import difflib
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Annotated

import typer

from amqpjobs.cli.app_option import JsonOption
from amqpjobs.cli.output import console, print_json, say
from amqpjobs.errors import ConfigurationError
from amqpjobs.telemetry.terminal import is_terminal

WIDTH = 100
"""Columns of a page on a wide terminal: longer lines are hard to read."""

_SECTION = re.compile(r"## (.+)")
_ENTRY = re.compile(r"- \[([^\]]+)\]\(([\w-]+)\.md\): (.+)")
_LINK = re.compile(r"\[([^\]]+)\]\(([\w-]+)\.md(?:#[\w-]+)?\)")
_HIDDEN = re.compile(r"^<!--.*?-->\n*", re.M | re.S)


@dataclass(frozen=True, slots=True)
class Entry:
    """A page, as the index lists it."""

    section: str
    page: str
    title: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Match:
    """A line of a page that has the word; lines are counted from 1, as in the plain text."""

    page: str
    title: str
    line: int
    text: str


def guide(
    page: Annotated[
        str | None, typer.Argument(help="Which page to show; without one, list them.")
    ] = None,
    search: Annotated[
        str | None,
        typer.Option("--search", metavar="WORD", help="Show the lines that contain this text."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Read the guide: list its pages, show one, or search them.

    A page is shown in a pager on a terminal, and as Markdown text in a pipe.
    """
    listed = list(entries())
    chosen = [entry_of(page, listed)] if page is not None else listed
    if search is not None:
        _show_matches(list(matches(search, chosen)), search, as_json=as_json)
    elif page is None:
        _show_list(listed, as_json=as_json)
    else:
        _show_page(chosen[0], as_json=as_json)


def entries() -> Iterator[Entry]:
    """All pages, in the order of the index."""
    section = ""
    for line in _read("index").splitlines():
        if heading := _SECTION.fullmatch(line):
            section = heading[1]
        elif (found := _ENTRY.fullmatch(line)) and _page(found[2]).is_file():
            yield Entry(section, found[2], found[1], found[3])


def entry_of(name: str, listed: list[Entry]) -> Entry:
    """The page of this name.

    Raises:
        ConfigurationError: there is none; names the nearest.
    """
    wanted = name.strip().lower().removesuffix(".md").replace("_", "-").replace(" ", "-")
    for entry in listed:
        if entry.page == wanted:
            return entry
    nearest = nearest_page(wanted, listed)
    hint = f"did you mean {nearest!r}? " if nearest else ""
    raise ConfigurationError(
        f"the guide has no page {name!r}: {hint}amqpjobs guide lists all pages, and "
        "--search WORD finds a word in them"
    )


def nearest_page(wanted: str, listed: list[Entry]) -> str | None:
    """The page that was meant: a misspelt name, else one whose title or sentence has the words."""
    names = [entry.page for entry in listed]
    words = wanted.replace("-", " ")
    texts = [(entry.title, entry.page) for entry in listed]
    texts += [(entry.sentence, entry.page) for entry in listed]
    for text, page in texts:
        if words and words in text.lower():
            return page
    close = difflib.get_close_matches(wanted, names, n=1)
    return close[0] if close else None


def matches(word: str, listed: list[Entry]) -> Iterator[Match]:
    """The lines that contain a text, in whatever case, page after page."""
    for entry in listed:
        for number, line in enumerate(_text(entry).splitlines(), 1):
            if word.casefold() in line.casefold():
                yield Match(entry.page, entry.title, number, line.strip())


def _show_list(listed: list[Entry], *, as_json: bool) -> None:
    if as_json:
        print_json([asdict(entry) for entry in listed])
        return
    width = max(len(entry.page) for entry in listed)
    section = None
    for entry in listed:
        if entry.section != section:
            section = entry.section
            sys.stdout.write(f"\n{section}\n")
        sys.stdout.write(f"  {entry.page:<{width}}  {entry.sentence}\n")
    sys.stdout.write("\namqpjobs guide NAME shows a page.\n")


def _show_matches(found: list[Match], word: str, *, as_json: bool) -> None:
    if as_json:
        print_json([asdict(match) for match in found])
        return
    page = None
    for match in found:
        if match.page != page:
            page = match.page
            sys.stdout.write(f"\n{page}: {match.title}\n")
        sys.stdout.write(f"  {match.line:>4}  {match.text}\n")
    if not found:
        say(f"{word!r} is on no page of the guide")
        raise typer.Exit(1)


def _show_page(entry: Entry, *, as_json: bool) -> None:
    text = _text(entry)
    if as_json:
        print_json(asdict(entry) | {"text": text})
    elif is_terminal(sys.stdout):
        _show_markdown(text)
    else:
        sys.stdout.write(text)


def _show_markdown(text: str) -> None:
    from rich.markdown import Markdown

    os.environ.setdefault("LESS", "FRX")  # less shows colours, and ends at once after a short page
    screen = console()
    # A link between pages is shown as the name that this command takes.
    shown = _LINK.sub(r"\1 (`\2`)", text)
    with screen.pager(styles=True):
        screen.print(Markdown(shown, hyperlinks=False), width=min(screen.width, WIDTH))


def _text(entry: Entry) -> str:
    """A page as readers see it: the code that only its test runs is a comment, and left out."""
    return _HIDDEN.sub("", _read(entry.page))


def _read(name: str) -> str:
    return _page(name).read_text("utf-8")


def _page(name: str) -> Traversable:
    return files("amqpjobs").joinpath("guide", f"{name}.md")
