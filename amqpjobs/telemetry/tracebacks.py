"""Tracebacks for people: the frames of the program's own code, without those of the framework.

They are cut out of the text, since the traceback of a job process arrives as text, too. Changes
when what is cut does.
"""

import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from amqpjobs.errors import RemoteError

_OURS: Final = str(Path(__file__).parents[1]) + "/"

_DEMO: Final = f"{_OURS}demo/"
"""An app like those of users."""

_OTHERS: Final = (
    "asyncio", "aio_pika", "aiormq", "anyio", "concurrent/futures", "pydantic", "pydantic_settings"
)  # fmt: skip

_LIBRARY: Final = re.compile(
    rf"/(?:site-packages|dist-packages|python3\.\d+)/(?:{'|'.join(_OTHERS)})/|uvloop/"
)

_FRAME: Final = re.compile(r'(?P<margin>[ |]*)  File "(?P<file>[^"]*)", line \d+, in ')


def whole_traceback(error: BaseException) -> str:
    """As Python prints it, with its causes."""
    return "".join(traceback.format_exception(error))


def short_traceback(error: BaseException) -> str:
    """The same without the frames of amqpjobs and of what it stands on, and with a last line that
    says how many were cut. Where no other frame is left in a part, its innermost one stays. Of what
    a job process raised there is only what was raised in it."""
    whole = error.traceback if isinstance(error, RemoteError) else whole_traceback(error)
    cut = _Cut()
    text = "".join(cut.lines(whole.splitlines(keepends=True)))
    if not cut.count:
        return text
    frames = "1 framework frame" if cut.count == 1 else f"{cut.count} framework frames"
    return f"{text.rstrip()}\n({frames} not shown; --verbose shows all)\n"


class _Cut:
    def __init__(self) -> None:
        self.count = 0

    def lines(self, lines: list[str]) -> Iterator[str]:
        """What is left of them."""
        frames: list[list[str]] = []  # of the part that is being read
        own: list[list[str]] = []
        margin = ""
        for line in lines:
            found = _FRAME.match(line)
            if found is not None:
                margin = found["margin"]
                frames.append([line])
                if not _is_framework(found["file"]):
                    own.append(frames[-1])
            elif frames and line.startswith(f"{margin}  "):
                frames[-1].append(line)  # its code, or how often it is repeated
            else:
                yield from self._left(frames, own)
                frames, own = [], []
                yield line
        yield from self._left(frames, own)

    def _left(self, frames: list[list[str]], own: list[list[str]]) -> Iterator[str]:
        kept = own or frames[-1:]
        self.count += len(frames) - len(kept)
        for frame in kept:
            yield from frame


def _is_framework(file: str) -> bool:
    if file.startswith(_OURS):
        return not file.startswith(_DEMO)
    return _LIBRARY.search(file) is not None
