"""The prompt without IPython, and the names that it knows."""

import asyncio
import signal
import sys
import threading
from datetime import date
from enum import Enum
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from amqpjobs import App, Context, Depends
from amqpjobs.cli.prompt import Prompt
from amqpjobs.cli.shell import names_of


class Size(Enum):
    S = "s"


class Line(BaseModel):
    size: Size
    nested: "list[Line]" = []


class Order(BaseModel):
    lines: list[Line]
    due: date | None = None


class Extra(TypedDict):
    note: str


class Session:
    """What a dependency makes: no argument."""


def session() -> Session:
    return Session()


app = App("shop")


@app.job(queue="receipts")
async def send(
    ctx: Context,
    order: Annotated[Order, Field()],
    to: Path | None = None,
    extra: dict[str, Extra] | None = None,
    made: Annotated[Session, Depends(session)] = None,  # type: ignore[assignment]
) -> None:
    """Send nothing."""


def test_the_classes_of_arguments_are_at_hand():
    """Those of fields too, and standard ones; neither the context nor what is injected."""
    names = names_of(app)
    assert set(names) == {
        "app", "send", "Order", "Line", "Size", "Path", "date", "Extra"
    }  # fmt: skip
    assert names["Line"] is Line
    assert names["send"] is send


class Typed:
    """What was typed at a prompt, and what it printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.closed: list[asyncio.AbstractEventLoop] = []

    def __call__(self, *lines: str, **names: object) -> "pytest.CaptureResult[str]":
        prompt = Prompt(names, self._close)
        waiting = iter(lines)

        def typed(prompt: str = "") -> str:
            try:
                return next(waiting)
            except StopIteration:
                raise EOFError from None

        prompt.raw_input = typed  # type: ignore[method-assign]
        prompt.run()
        shown = self._capsys.readouterr()
        return shown._replace(err=shown.err.removesuffix("\n"))  # Ctrl-D goes to the next line

    async def _close(self) -> None:
        self.closed.append(asyncio.get_running_loop())


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str]) -> Typed:
    return Typed(capsys)


async def work(n: int) -> int:
    return n * 2


def test_a_line_is_awaited_and_its_value_is_shown(typed: Typed):
    """On one loop, which still runs between two lines and closes the app."""
    loops: list[asyncio.AbstractEventLoop] = []
    ticked: list[int] = []

    async def tick() -> None:
        loops.append(asyncio.get_running_loop())
        ticked.append(1)

    def passed() -> None:
        """Blocks the prompt, not the loop: it returns once the loop has gone on by itself."""
        asyncio.run_coroutine_threadsafe(tick(), loops[0]).result(10)

    shown = typed(
        "await tick()", "passed()", "await work(21)", "x = await work(1)", "x",
        tick=tick, work=work, passed=passed,
    )  # fmt: skip
    assert (shown.out, shown.err) == ("42\n2\n", "")
    assert ticked == [1, 1]
    assert set(loops) == set(typed.closed)
    assert loops[0].is_closed()


@pytest.mark.filterwarnings("error")
def test_a_coroutine_that_was_not_awaited_is_named(typed: Typed):
    """At once, where Python would warn lines later, and no warning follows."""
    shown = typed("work(1)", "5", work=work)
    assert shown.out == "5\n"
    assert shown.err == "not run: work() returned a coroutine; put `await` before it\n"


def test_a_name_that_holds_a_coroutine_is_told_once(typed: Typed):
    """It can still be awaited."""
    shown = typed("job = work(4)", "1", "await job", "job = work(3)", "await job", work=work)
    assert shown.out == "1\n8\n6\n"
    assert shown.err == 2 * (
        "'job' is a coroutine that has not run: `await job`, or put `await` before work()\n"
    )


def test_a_method_with_a_hint_in_its_name_is_named_without(typed: Typed):
    """`Job.later` has one."""
    shown = typed("send.later(Order(lines=[]))", send=send, Order=Order)
    assert shown.err == "not run: Job.later() returned a coroutine; put `await` before it\n"


def test_an_error_begins_at_the_line_that_was_typed(typed: Typed):
    """None of the frames of the prompt, nothing chained; and it goes on."""
    shown = typed("1 / 0", "async def f(): raise KeyError(1)", "", "await f()", "a b", "6 * 7")
    assert shown.out == "42\n"
    assert "prompt.py" not in shown.err
    assert "During handling" not in shown.err
    assert "Error in sys.excepthook" not in shown.err
    for line in ("ZeroDivisionError: division by zero", "KeyError: 1", "SyntaxError: "):
        assert line in shown.err
    assert shown.err.count('File "<console>", line 1, in <module>') == 2


def test_exit_ends_it_from_anywhere(typed: Typed):
    """Of a line, and of what a line awaits; the app is closed, Python's hooks are back."""
    hooks = sys.displayhook, sys.excepthook

    async def leave() -> None:
        raise SystemExit(7)

    for line in ("raise SystemExit(7)", "await leave()"):
        with pytest.raises(SystemExit, match="7"):
            typed(line, leave=leave)
    assert len(typed.closed) == 2
    assert (sys.displayhook, sys.excepthook) == hooks


def test_ctrl_c_cancels_what_a_line_waits_for(typed: Typed):
    """And the prompt goes on."""
    ends: list[str] = []

    async def wait() -> None:
        asyncio.get_running_loop().call_soon(
            signal.pthread_kill, threading.main_thread().ident, signal.SIGINT
        )
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    shown = typed("await wait()", "6 * 7", wait=wait)
    assert ends == ["cancelled"]
    assert (shown.out, shown.err) == ("42\n", "KeyboardInterrupt\n")
