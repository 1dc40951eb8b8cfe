"""The line of a job that is done: made directly it is the same to the letter, and whoever wants to
see the record gets it."""

import io
import json
import logging
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry import trace

from amqpjobs.jobs.message.ids import new_job_id
from amqpjobs.jobs.message.properties import Properties
from amqpjobs.jobs.outcome import DONE_NOTHING, Done
from amqpjobs.jobs.run_context import RunContext
from amqpjobs.telemetry.log_stream import LogBuffer, LogWriter
from amqpjobs.telemetry.logs import ConsoleFormatter, JsonFormatter
from amqpjobs.worker import done_lines, reporting
from amqpjobs.worker.done_lines import DoneLines
from amqpjobs.worker.reporting import Reporting
from tests.support.tracing import traced

TEXT = st.text(max_size=30)


def run_of(job: str = "send", job_id: str = "", queue: str = "mails", **more: Any) -> Any:
    header = SimpleNamespace(
        raw_headers=b"", timestamp=more.pop("timestamp", None), headers={}, content_encoding=None
    )
    delivery = SimpleNamespace(header=header, stale=more.pop("stale", False), body=b"[]")
    context = RunContext(
        job, job_id or new_job_id(), queue, more.pop("attempt", 1), None, None, Properties
    )  # fmt: skip
    return SimpleNamespace(
        delivery=delivery, context=context, started=time.monotonic(), definition=None
    )


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> logging.Logger:
    """The root of loggers of their own: pytest has handlers at the other."""
    root = logging.RootLogger(logging.INFO)
    manager = logging.Manager(root)
    monkeypatch.setattr(reporting, "log", manager.getLogger("amqpjobs.worker"))
    return root


@pytest.fixture
def stream(root: logging.Logger) -> io.StringIO:
    stream = io.StringIO()
    buffer = LogBuffer(stream)
    buffer.setFormatter(JsonFormatter())
    root.addHandler(buffer)
    return stream


def logger_of(name: str) -> logging.Logger:
    """The one of this name in that tree, made now if it was not."""
    manager = reporting.log.manager
    return manager.root if name == "root" else manager.getLogger(name)


def lines_of(stream: io.StringIO) -> list[str]:
    for handler in logger_of("root").handlers:
        handler.flush()
    lines = stream.getvalue().splitlines()
    stream.seek(0)
    stream.truncate()
    return lines


def report(stream: io.StringIO, run: Any, *, directly: bool) -> str:
    reporter = Reporting(arguments=False)
    if not directly:
        reporter._lines = None
    reporter.report(run, DONE_NOTHING)
    (line,) = lines_of(stream)
    return line


@given(
    job=TEXT, job_id=TEXT, queue=TEXT, attempt=st.integers(1, 10**6),
    timestamp=st.none() | st.integers(0, 2**33), millisecond=st.integers(0, 4 * 10**12),
    took=st.floats(0, 1e6),
)  # fmt: skip
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_it_is_the_same_to_the_letter(
    stream: io.StringIO, millisecond: int, took: float, **run: Any
) -> None:
    """For whatever strangers call their jobs, and at any time."""
    made = run_of(**run)
    made.started = 0.0
    now = millisecond / 1000 + 0.0005  # not at an edge: Python 3.13 counts in whole nanoseconds
    clock = SimpleNamespace(
        time=lambda: now, monotonic=lambda: took, time_ns=lambda: int(now * 1_000_000_000)
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(reporting, "time", clock)
        patched.setattr(done_lines, "time", lambda: now)
        patched.setattr(logging, "time", clock)
        direct = report(stream, made, directly=True)
        by_logging = report(stream, made, directly=False)
    assert direct == by_logging
    assert json.loads(direct)["job"] == json.loads(by_logging)["job"]


def test_it_is_made_directly(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the test above would compare nothing."""
    monkeypatch.setattr(reporting.log, "log", None)
    line = json.loads(report(stream, run_of(), directly=True))
    assert (line["event"], line["outcome"], line["logger"]) == (
        "job done", "done", "amqpjobs.worker"
    )  # fmt: skip


class Seen(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def look(self, record: logging.LogRecord) -> bool:
        self.records.append(record)
        return True


def of_logger(name: str) -> Callable[[pytest.MonkeyPatch, Seen], None]:
    def watch(patched: pytest.MonkeyPatch, seen: Seen) -> None:
        logger = logger_of(name)
        patched.setattr(logger, "handlers", [*logger.handlers, seen])

    return watch


def test_a_handler_of_errors_alone_is_in_nobodys_way(
    stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error tracker: it would not be given the record."""
    for name in ("root", "amqpjobs.worker"):
        logger_of(name).addHandler(logging.StreamHandler())
        logger_of(name).handlers[-1].setLevel(logging.ERROR)
    monkeypatch.setattr(reporting.log, "log", None)
    assert json.loads(report(stream, run_of(), directly=True))["event"] == "job done"


def by_filter(name: str) -> Callable[[pytest.MonkeyPatch, Seen], None]:
    def watch(patched: pytest.MonkeyPatch, seen: Seen) -> None:
        patched.setattr(logger_of(name), "filters", [seen.look])

    return watch


def by_patch(patched: pytest.MonkeyPatch, seen: Seen) -> None:
    """As sentry-sdk sees what is logged."""
    original = logging.Logger.callHandlers

    def patched_call(self: logging.Logger, record: logging.LogRecord) -> None:
        seen.emit(record)
        original(self, record)

    patched.setattr(logging.Logger, "callHandlers", patched_call)


def by_factory(patched: pytest.MonkeyPatch, seen: Seen) -> None:
    """As OpenTelemetry's instrumentation of logging does."""
    original = logging.getLogRecordFactory()

    def make(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = original(*args, **kwargs)
        seen.emit(record)
        return record

    patched.setattr(logging, "_logRecordFactory", make)


def by_handler_filter(patched: pytest.MonkeyPatch, seen: Seen) -> None:
    (buffer,) = logger_of("root").handlers
    patched.setattr(buffer, "filters", [seen.look])


@pytest.mark.parametrize(
    "watch",
    [
        of_logger("root"), of_logger("amqpjobs"), of_logger("amqpjobs.worker"),
        by_filter("amqpjobs.worker"), by_patch, by_factory, by_handler_filter,
    ],
)  # fmt: skip
def test_who_looks_at_records_gets_one(
    stream: io.StringIO, monkeypatch: pytest.MonkeyPatch, watch: Any
) -> None:
    """A handler of the application's, a filter, an error tracker."""
    reporter = Reporting(arguments=False)
    reporter.report(run_of(), DONE_NOTHING)  # was direct before
    seen = Seen()
    watch(monkeypatch, seen)
    reporter.report(run_of(), DONE_NOTHING)
    assert [record.getMessage() for record in seen.records] == ["job done"]
    assert len(lines_of(stream)) == 2


@pytest.mark.parametrize("form", [ConsoleFormatter, logging.Formatter])
def test_another_format_is_that_format(root: logging.Logger, form: type[logging.Formatter]) -> None:
    """Only our JSON is made here."""
    buffer = LogBuffer(io.StringIO())
    buffer.setFormatter(form())
    root.addHandler(buffer)
    assert DoneLines(reporting.log).buffer() is None
    root.handlers[:] = [LogWriter(io.StringIO())]
    assert DoneLines(reporting.log).buffer() is None


def test_a_logger_that_does_not_propagate_is_left_alone(
    stream: io.StringIO,
) -> None:
    """A ``dictConfig`` of the application's."""
    reporter = Reporting(arguments=False)
    reporter.report(run_of(), DONE_NOTHING)
    assert len(lines_of(stream)) == 1
    reporting.log.manager.getLogger("amqpjobs").propagate = False
    reporter.report(run_of(), DONE_NOTHING)
    assert lines_of(stream) == []


def test_what_has_more_to_say_is_logged_as_ever(stream: io.StringIO) -> None:
    """A trace, a lost channel, the arguments."""
    stale = json.loads(report(stream, run_of(stale=True), directly=True))
    assert stale["stale"] is True
    reporter = Reporting(arguments=True)
    reporter.report(run_of(), Done(None))
    assert json.loads(lines_of(stream)[0])["arguments"] == "[]"
    with traced(), trace.get_tracer("tests").start_as_current_span("around"):
        line = json.loads(report(stream, run_of(), directly=True))
    assert len(line["trace_id"]) == 32
