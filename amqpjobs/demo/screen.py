"""What the show looks like: bars on a terminal, lines elsewhere, JSON for programs.

Changes when it is shown differently.
"""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from amqpjobs.demo.processes import APP
from amqpjobs.demo.show import Show, Shown
from amqpjobs.telemetry.safe_text import printable

PICTURES = 8
"""A second."""

ROWS = 16
"""Photographs that are shown at once: the last ones."""

WORDS = {
    "queued": "waits", "started": "in work", "retrying": "failed, is tried again",
    "released": "waits", "done": "done", "failed": "failed",
}  # fmt: skip

AFTERWARDS = f"""
The same on RabbitMQ, each command in a terminal, a container or a machine of its own:

  export AMQPJOBS_URL=amqp://user:password@host:5672/  AMQPJOBS_APP={APP}
  amqpjobs consume thumbnails
  amqpjobs web --asgi amqpjobs.demo.web:api

A project of your own: amqpjobs new NAME
"""


class Screen(Protocol):
    """Shows the show while it runs."""

    def starts(self) -> None:
        """The processes are being started."""

    def ready(self, show: Show) -> None:
        """The page is there."""

    async def follow(self, show: Show) -> None:
        """Show what happens until cancelled."""

    def ends(self, show: Show) -> None:
        """It is over."""


class Terminal:
    """Progress bars that live."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, markup=False, emoji=False)

    def starts(self) -> None:
        """See `Screen`."""
        self._console.print("A broker in this process, a web page and two workers: starting ...")

    def ready(self, show: Show) -> None:
        """See `Screen`."""
        page = Text(show.page, style="bold")
        self._console.print(Text.assemble("The page: ", page, "   Ctrl-C ends the show.\n"))

    async def follow(self, show: Show) -> None:
        """See `Screen`."""
        with Live(console=self._console, auto_refresh=False) as live:
            try:
                while True:
                    live.update(self._picture(show), refresh=True)
                    await asyncio.sleep(1 / PICTURES)
            finally:
                live.update(self._picture(show), refresh=True)

    def _picture(self, show: Show) -> RenderableType:
        table = Table(box=None, pad_edge=False, show_header=False)
        for shown in show.shown[-ROWS:]:
            table.add_row(
                Text(printable(shown.name.removesuffix(".jpg"))),
                ProgressBar(1.0, 1.0 if shown.ended else shown.progress, width=28),
                Text(f"worker {shown.worker}" if shown.worker else ""),
                Text(printable(_words(shown)), style="red" if shown.state == "failed" else ""),
            )
        return Group(table, Text(printable(f"\n{summary_of(show)}")))

    def ends(self, show: Show) -> None:
        """See `Screen`."""
        self._console.print(AFTERWARDS, soft_wrap=True)


class Lines:
    """A line for each photograph that is over: for logs, and for terminals that show no more."""

    def __init__(self, write: Callable[[str], Any] = sys.stdout.write) -> None:
        self._write = write
        self._told: set[str] = set()

    def _say(self, line: str) -> None:
        self._write(f"{printable(line)}\n")
        sys.stdout.flush()

    def starts(self) -> None:
        """See `Screen`."""
        self._say("A broker in this process, a web page and two workers: starting ...")

    def ready(self, show: Show) -> None:
        """See `Screen`."""
        self._say(f"The page: {show.page}")

    async def follow(self, show: Show) -> None:
        """See `Screen`."""
        try:
            while True:
                self._tell(show)
                await asyncio.sleep(1 / PICTURES)
        finally:
            self._tell(show)

    def _tell(self, show: Show) -> None:
        for shown in show.shown:
            if shown.ended and shown.id not in self._told:
                self._told.add(shown.id)
                self._say(f"{shown.name:24} worker {shown.worker or '-'}  {_words(shown)}")

    def ends(self, show: Show) -> None:
        """See `Screen`."""
        self._say(f"\n{summary_of(show)}\n{AFTERWARDS}")


class Json:
    """One document in the end."""

    def starts(self) -> None:
        """Nothing to say yet."""

    def ready(self, show: Show) -> None:
        """Nothing to say yet."""

    async def follow(self, show: Show) -> None:
        """Nothing to say yet."""

    def ends(self, show: Show) -> None:
        """See `Screen`."""
        found = {
            "page": show.page,
            "seconds": round(show.seconds, 1),
            "photographs": [
                {
                    "id": shown.id, "name": shown.name, "state": shown.state,
                    "worker": shown.worker, "error": shown.error,
                }
                for shown in show.shown
            ],
        }  # fmt: skip
        sys.stdout.write(json.dumps(found, indent=2) + "\n")


def summary_of(show: Show) -> str:
    """How many of how many, by whom, and which failed."""
    done = [shown for shown in show.shown if shown.state == "done"]
    by = Counter(shown.worker for shown in done if shown.worker)
    shares = " and ".join(f"{count} by worker {n}" for n, count in sorted(by.items()))
    failed = [shown for shown in show.shown if shown.state == "failed"]
    text = f"{len(done)} of {len(show.shown)} done" + (f", {shares}" if shares else "")
    return text + "".join(f"\n{shown.name}: {_words(shown)}" for shown in failed[-3:])


def _words(shown: Shown) -> str:
    if shown.state == "failed" and shown.error:
        return f"failed, and is a dead letter: {shown.error}"
    if shown.state == "started" and shown.detail:
        return shown.detail
    return WORDS.get(shown.state, shown.state)
