"""JSON that stays on its line, and acts on no terminal, whatever the texts in it are.

JSON itself escapes only what is below U+0020. Changes when another character has to be escaped.
"""

import json

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
