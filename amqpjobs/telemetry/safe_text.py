"""Texts of others, made safe to show: they stay on their line, and act on no terminal.

Changes when another character acts on what shows it.
"""

import json
from codecs import getincrementaldecoder

BEGINNING = 32
"""Bytes that are shown of what is no text."""

ENDS_OF_LINES = {ord(c): f"\\u{ord(c):04x}" for c in "\x85\u2028\u2029"}
"""What JSON may hold as it is, and some programs take for the end of a line."""


def on_one_line(text: str) -> str:
    """JSON with an escape for each character that would end its line."""
    return text if text.isascii() else text.translate(ENDS_OF_LINES)


def harmless(text: str) -> str:
    """JSON with an escape for each character that is not printable, such as those that turn text
    around or begin a terminal's commands. It means the same."""
    if text.isascii():
        return text
    return "".join(c if c.isprintable() or c.isascii() else json.dumps(c)[1:-1] for c in text)


def printable(text: str) -> str:
    """The text with an escape in place of each character that would act on a terminal: strangers
    write ids and messages."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


def text_in(body: bytes, most: int | None = None) -> str | None:
    """Bytes as text; None if they are none.

    Args:
        most: bytes of them; None for all.
    """
    try:
        return getincrementaldecoder("utf-8")().decode(body[:most], final=most is None)
    except UnicodeDecodeError:
        return None


def text_or_size(body: bytes, most: int | None = None) -> str:
    """Bytes for people: as text, else how many they are and how they begin.

    Args:
        most: bytes that are shown of a text; None for all.
    """
    text = text_in(body, most)
    if text is not None and "\0" not in text:
        return text
    more = " ..." if len(body) > BEGINNING else ""
    return f"{len(body)} bytes: {body[:BEGINNING].hex(' ')}{more}"
