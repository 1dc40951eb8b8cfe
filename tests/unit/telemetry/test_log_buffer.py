"""Log lines that a thread writes: in order, soon, all of them, and nobody waits for a reader."""

import io
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TextIO

import pytest

from amqpjobs.telemetry import log_stream
from amqpjobs.telemetry.log_stream import LogBuffer
from amqpjobs.telemetry.logs import JsonFormatter
from tests.support.programs import KEPT, ROOT


class Gate(io.StringIO):
    """A reader that reads when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()
        self.open.set()
        self.writes = 0

    def write(self, text: str) -> int:
        self.open.wait()
        self.writes += 1
        return super().write(text)

    @property
    def lines(self) -> list[str]:
        return self.getvalue().splitlines()


def eventually(condition: Callable[[], object]) -> None:
    ends = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < ends, "it did not happen"
        time.sleep(0.002)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()


def test_one_line_is_written_at_once_and_many_together(gate: Gate) -> None:
    """In the order in which they were put."""
    buffer = LogBuffer(gate)
    buffer.put("first")
    eventually(lambda: gate.lines == ["first"])
    for number in range(5_000):
        buffer.put(str(number))
    buffer.flush()
    assert gate.lines == ["first", *map(str, range(5_000))]
    assert gate.writes < 50


def test_lines_of_threads_are_all_there_each_thread_in_order(gate: Gate) -> None:
    """Whoever rouses the thread."""
    buffer = LogBuffer(gate)

    def put(name: int) -> None:
        for number in range(2_000):
            buffer.put(f"{name} {number}")

    threads = [threading.Thread(target=put, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    buffer.flush()
    for name in range(8):
        found = [line for line in gate.lines if line.startswith(f"{name} ")]
        assert found == [f"{name} {number}" for number in range(2_000)]


def test_a_reader_that_does_not_read_holds_nobody_up(gate: Gate) -> None:
    """What waits is written when it reads again; `flush` does not wait for ever."""
    buffer = LogBuffer(gate)
    gate.open.clear()
    began = time.monotonic()
    for number in range(log_stream.FULL + 5_000):
        buffer.put(str(number))
    assert time.monotonic() - began < 1
    assert buffer.is_full()
    buffer.flush()
    assert time.monotonic() - began < 5
    gate.open.set()
    buffer.flush()
    assert gate.lines == [str(number) for number in range(log_stream.FULL + 5_000)]
    assert not buffer.is_full()


@pytest.mark.parametrize("size", [1, 100_000], ids=["many lines", "long lines"])
def test_what_is_too_much_is_dropped_and_counted(
    gate: Gate, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """The oldest are kept; the count comes with the next that can be written."""
    monkeypatch.setattr(log_stream, "FULL", 100)
    monkeypatch.setattr(log_stream, "FULL_CHARACTERS", 40_000)
    buffer = LogBuffer(gate)
    buffer.setFormatter(JsonFormatter())
    buffer.put("taken")
    eventually(lambda: gate.lines == ["taken"])
    gate.open.clear()
    put = 2_000
    buffer.put("0")
    eventually(lambda: buffer._writing)
    for number in range(1, put):
        buffer.put(str(number).ljust(size))
    gate.open.set()
    buffer.flush()
    told = [json.loads(line) for line in gate.lines if "could not be written" in line]
    kept = [int(line) for line in gate.lines if line.strip().isdecimal()]
    assert kept == sorted(kept)
    assert 0 < len(kept) < put
    assert len(kept) + sum(line["lines"] for line in told) == put


def test_an_error_does_not_wait_for_the_next_write(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be the last line of this program."""
    monkeypatch.setattr(log_stream, "PAUSE", 60.0)
    buffer = LogBuffer(gate)
    logger = logging.Logger("tests")
    logger.addHandler(buffer)
    logger.info("one")
    eventually(lambda: gate.lines == ["one"])
    logger.info("two")
    logger.error("three")
    eventually(lambda: gate.lines == ["one", "two", "three"])


def test_without_a_thread_lines_are_written_at_once(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine has none for us; the next line tries again."""

    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    buffer = LogBuffer(gate)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_thread)
        buffer.put("one")
        buffer.put("two")
        assert gate.lines == ["one", "two"]
    buffer.put("three")
    eventually(lambda: gate.lines == ["one", "two", "three"])


def test_a_forked_child_writes_its_own_lines_only(tmp_path) -> None:
    """What the parent has yet to write would come twice."""
    path = tmp_path / "log"
    with path.open("a") as stream:
        buffer = LogBuffer(stream)
        buffer._idle = False  # no thread takes it yet
        buffer.put("parent")
        child = os.fork()
        if child == 0:
            with suppress(BaseException):
                buffer.put("child")
                buffer.flush()
            os._exit(0)
        os.waitpid(child, 0)
        buffer._wake.set()
        buffer.flush()
    assert sorted(path.read_text().splitlines()) == ["child", "parent"]


@pytest.mark.parametrize("end", ["", "leave()", "raise SystemExit(0)", "1 / 0"])
def test_the_end_of_the_program_writes_what_is_left(end: str) -> None:
    """However it ends, if it is not killed."""
    code = (
        "import logging; from amqpjobs.cli.ending import leave; "
        "from amqpjobs.telemetry.logs import configure_logs; "
        "configure_logs('info', 'json', buffered=True)\n"
        f"for n in range(3000): logging.info('%d', n)\n{end}"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=KEPT, capture_output=True, text=True,
        timeout=40, check=False,
    )  # fmt: skip
    events = [json.loads(line)["event"] for line in done.stdout.splitlines()]
    assert events == [str(n) for n in range(3000)]


def test_the_end_does_not_wait_for_a_reader_for_ever() -> None:
    """A pipe that is full: the program ends after a second, with its own status."""
    code = (
        "import logging; from amqpjobs.telemetry.logs import configure_logs; "
        "configure_logs('info', 'json', buffered=True)\n"
        "for n in range(3000): logging.info('%d', n)\n"
        "import os; os.write(2, b'over'); raise SystemExit(7)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env=KEPT, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as program:  # fmt: skip
        assert program.stderr is not None
        assert program.stderr.read(4) == b"over"
        try:
            assert program.wait(20) == 7
        finally:
            program.kill()


@pytest.mark.parametrize("kind", [log_stream.LogWriter, LogBuffer])
def test_what_the_encoding_lacks_becomes_an_escape(kind: type[log_stream.LogWriter]) -> None:
    """As in a terminal with ``LANG=C``."""
    raw = io.BytesIO()
    stream: TextIO = io.TextIOWrapper(raw, encoding="ascii")
    writer = kind(stream)
    writer.put("caf\xe9 \u2713")
    writer.flush()
    assert raw.getvalue() == b"caf\\xe9 \\u2713\n"


def test_it_is_full_until_the_reader_has_read_half(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it reads all the time, and too slowly: one line less is not room."""
    monkeypatch.setattr(log_stream, "FULL", 10)
    buffer = LogBuffer(gate)
    buffer._idle = False  # nothing is written here
    for _ in range(11):
        buffer.put("x")
    assert buffer.is_full()
    del buffer._lines[:4]
    assert buffer.is_full()
    del buffer._lines[:4]
    assert not buffer.is_full()


PROGRAM = """
import logging, sys
from amqpjobs.telemetry import log_stream
from amqpjobs.telemetry.logs import configure_logs
log_stream.FLUSH = 20  # the reader of this test may get no processor for half a second
configure_logs("info", "json", buffered=True)
for n in range(4000):
    logging.info("line", extra={"n": n, "who": sys.argv[1], "padding": "\u00e9" * (n % 120)})
"""


def test_processes_that_share_a_pipe_do_not_write_into_each_others_lines() -> None:
    """Workers of one container, and the processes of their jobs, whatever the reader's pace."""
    reader, writer = os.pipe()
    programs = [
        subprocess.Popen([sys.executable, "-c", PROGRAM, who], cwd=ROOT, env=KEPT, stdout=writer)
        for who in "abc"
    ]
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as lines:
        found = [json.loads(line) for line in lines]
    assert [program.wait(20) for program in programs] == [0, 0, 0]
    for who in "abc":
        assert [line["n"] for line in found if line["who"] == who] == list(range(4000))


class Redirected(io.StringIO):
    """What some programs put in place of stdout."""

    def write(self, text: str) -> int:
        logging.getLogger("redirected").warning(text)
        return super().write(text)


class Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise ZeroDivisionError


@pytest.mark.parametrize("kind", [log_stream.LogWriter, LogBuffer])
def test_a_stream_that_logs_comes_to_an_end(
    kind: type[log_stream.LogWriter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """stdout redirected to a logger: each line once."""
    stream = Redirected()
    writer = kind(stream)
    monkeypatch.setattr(logging.getLogger("redirected"), "handlers", [writer])
    monkeypatch.setattr(logging.getLogger("redirected"), "propagate", False)
    logger = logging.Logger("tests")
    logger.addHandler(writer)
    logger.warning("one")
    writer.flush()
    logger.warning("two")
    writer.flush()
    assert stream.getvalue() == "one\ntwo\n"


@pytest.mark.parametrize("kind", [log_stream.LogWriter, LogBuffer])
def test_a_stream_that_fails_in_its_own_way_is_one_that_cannot_be_written(
    kind: type[log_stream.LogWriter],
) -> None:
    """The next lines are tried again, by the same thread."""
    writer = kind(Broken())
    for _ in range(3):
        writer.put("lost")
        writer.flush()
    assert writer._failed == 3
