"""Log lines: one JSON object each, with the keys of the job that runs, and no secrets in them."""

import asyncio
import io
import json
import logging

import pytest

from amqpjobs.broker.rabbitmq.connection import Link
from amqpjobs.cli.output import print_json
from amqpjobs.errors import BrokerUnavailable
from amqpjobs.jobs.message.properties import Properties
from amqpjobs.jobs.message.trace_context import RemoteSpan
from amqpjobs.jobs.run_context import JobLogger, RunContext, current_context
from amqpjobs.settings import Settings
from amqpjobs.telemetry.logs import ConsoleFormatter, JsonFormatter, configure_logs
from tests.support.logs import logging_of_its_own
from tests.support.tracing import context_of, traced

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture(autouse=True)
def _logging_as_it_was():
    with logging_of_its_own():
        yield


def configure_alone(level, form, stream):
    """Without the handlers of pytest, which would keep what the tests write for its report."""
    logging.getLogger().handlers[:] = []
    configure_logs(level, form, stream=stream)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def strict_stream():
    """As stdout is: what is not UTF-8 raises."""
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="\n")


def text_of(stream):
    stream.flush()
    return stream.buffer.getvalue().decode()


@pytest.fixture
def job():
    """A job that runs here."""
    properties = Properties(headers={"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01"})
    context = RunContext("resize", "7", "photos", 2, None, asyncio.Event(), lambda: properties)
    token = current_context.set(context)
    yield context
    current_context.reset(token)


def json_lines(say, level="info"):
    stream = strict_stream()
    configure_alone(level, "json", stream=stream)
    say(logging.getLogger("user"))
    return [json.loads(line) for line in text_of(stream).split("\n")[:-1]]


def console_text(say):
    stream = Terminal()
    configure_alone("debug", "auto", stream=stream)
    say(logging.getLogger("user"))
    return stream.getvalue()


def test_a_line_is_one_json_object():
    """With time, level, logger and what happened."""
    [line] = json_lines(lambda log: log.info("hello %s", "world", extra={"pages": 3}))
    assert {k: line[k] for k in ("level", "logger", "event", "pages")} == {
        "level": "info", "logger": "user", "event": "hello world", "pages": 3
    }  # fmt: skip
    assert line["timestamp"].endswith("+00:00")
    assert set(line) == {"timestamp", "level", "logger", "event", "pages"}


def test_lines_within_a_job_carry_its_keys(job):
    """The user's own too, without any doing of the user's."""
    [line] = json_lines(lambda log: log.info("hello"))
    assert {k: line[k] for k in ("job", "job_id", "queue", "attempt", "trace_id")} == {
        "job": "resize", "job_id": "7", "queue": "photos", "attempt": 2, "trace_id": TRACE_ID
    }  # fmt: skip


def test_lines_outside_of_a_job_carry_none():
    """There is none."""
    [line] = json_lines(lambda log: log.info("hello"))
    assert "job" not in line


def test_a_line_that_names_another_job_keeps_its_own_keys(job):
    """As the line about a finished job does while another one runs."""
    ours = logging.getLogger("amqpjobs.worker")
    [line] = json_lines(lambda _: ours.info("done", extra={"job_id": "8"}))
    assert (line["job_id"], line["queue"]) == ("8", "photos")


def test_an_exception_is_one_line_with_its_traceback():
    """Not thirty lines that nobody can put together again."""

    def fail(log):
        try:
            {}["boom"]
        except LookupError:
            log.exception("failed")

    [line] = json_lines(fail)
    assert line["traceback"].startswith("Traceback")
    assert line["traceback"].rstrip().endswith("KeyError: 'boom'")


HOSTILE = "a\nb\r\x1b[2J\x00\u2028\x85\x7f\udcff\U0001f600"


def test_no_line_ends_within_a_line():
    """Not for programs that know more ends of lines than JSON, such as Python's `splitlines`."""
    ends = "".join(c for c in map(chr, range(0x110000)) if len(f"a{c}b".splitlines()) > 1)
    assert len(ends) >= 10
    stream = strict_stream()
    configure_alone("info", "json", stream=stream)
    logging.getLogger("user").info("a %s", ends, extra={"key": ends, ends: {ends: ends}})
    [line] = text_of(stream).splitlines()
    told = json.loads(line)
    assert (told["event"], told["key"], told[ends]) == (f"a {ends}", ends, {ends: ends})


def test_hostile_text_stays_within_its_line():
    """Whatever strangers put into a name: one line, valid JSON, valid UTF-8."""
    stream = strict_stream()
    configure_alone("info", "json", stream=stream)
    log = logging.getLogger("user")
    log.info("event %s", HOSTILE, extra={"key": HOSTILE, "deep": {"a": [HOSTILE]}})
    log.info("next")
    lines = text_of(stream).split("\n")
    assert len(lines) == 3
    for character in "\x1b\x00\r":
        assert character not in lines[0]
    read = json.loads(lines[0])
    assert read["key"] == HOSTILE
    assert read["event"] == f"event {HOSTILE}"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_lacks_does_not_spoil_the_line(value):
    """`NaN` is no JSON: a log collector would drop the line."""

    def no_constant(name):
        raise AssertionError(name)

    stream = strict_stream()
    configure_alone("info", "json", stream=stream)
    logging.getLogger("user").info("ratio", extra={"ratio": value, "more": [value]})
    read = json.loads(text_of(stream), parse_constant=no_constant)
    assert read["event"] == "ratio"


def test_an_object_that_json_lacks_is_shown_as_text():
    """Paths, dates, sets."""
    from pathlib import Path

    [line] = json_lines(lambda log: log.info("x", extra={"path": Path("/a"), "odd": {1}}))
    assert (line["path"], line["odd"]) == ("/a", "{1}")


def test_levels_below_the_one_asked_for_are_not_written():
    """Nor those of libraries whose errors we report in our own words."""

    def say(log):
        log.debug("no")
        log.warning("yes")
        logging.getLogger("aiormq.connection").error("noise")

    assert [line["event"] for line in json_lines(say)] == ["yes"]


def test_at_debug_the_libraries_speak_too():
    """Whoever asks for it wants all of it."""
    lines = json_lines(lambda _: logging.getLogger("aiormq").error("noise"), level="debug")
    assert [line["event"] for line in lines] == ["noise"]


def test_the_form_follows_the_stream():
    """Readable on a terminal, JSON elsewhere; and as the setting says where there is one."""
    for form, stream, kind in (
        ("auto", Terminal(), ConsoleFormatter), ("auto", io.StringIO(), JsonFormatter),
        ("json", Terminal(), JsonFormatter), ("console", io.StringIO(), ConsoleFormatter),
        ("verbose", io.StringIO(), ConsoleFormatter),
    ):  # fmt: skip
        with logging_of_its_own() as root:
            configure_alone("info", form, stream=stream)
            [handler] = root.handlers
        assert isinstance(handler.formatter, kind)


def test_a_line_on_a_terminal_has_the_keys_behind_it(job):
    """Quoted where they have blanks."""
    text = console_text(lambda log: log.info("hello", extra={"page": "3 of 4", "none": ""}))
    assert "hello" in text
    assert "resize: hello" in text
    assert '7 page="3 of 4" none=""' in text


def test_no_key_moves_the_cursor_or_adds_a_line():
    """A terminal obeys what it is sent."""
    text = console_text(lambda log: log.info("hello", extra={"key": HOSTILE}))
    assert text.count("\n") == 1
    assert "\x1b[2J" not in text


def test_no_message_and_no_traceback_moves_the_cursor():
    """An exception says what a stranger sent; a name in a message is a stranger's too."""

    error = LookupError(f"no album {HOSTILE}")

    def fail(log):
        log.error("failed %s", "\x1b[2J", exc_info=error)

    assert "\x1b[2J" not in console_text(fail)


def test_json_has_all_frames():
    """A terminal leaves those of the framework out."""

    async def fail():
        raise LookupError("boom")

    def say(log):
        try:
            asyncio.run(fail())
        except LookupError:
            log.exception("failed")

    [line] = json_lines(say)
    assert "/asyncio/" in line["traceback"]
    text = console_text(say)
    assert "/asyncio/" not in text
    assert "LookupError: boom" in text


# --- secrets -----------------------------------------------------------------------------------


async def test_a_password_is_in_nothing_that_is_shown(capsys):
    """Log lines at debug with the library's own, errors with their causes, repr, and --json."""

    async def slam(reader, writer):
        writer.close()

    server = await asyncio.start_server(slam, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    settings = Settings(url=f"amqp://user:hunter2@127.0.0.1:{port}/%2f", connect_timeout=5)
    stream = strict_stream()
    configure_alone("debug", "json", stream=stream)
    link = Link(settings, "publish")
    with pytest.raises(BrokerUnavailable) as caught:
        await link.connect()
    logging.getLogger("user").error("no broker %r", settings, exc_info=caught.value)
    logging.getLogger("user").error("state %r %s", link, settings)
    await link.close()
    server.close()
    await server.wait_closed()
    print_json(settings.model_dump())
    shown = text_of(stream) + capsys.readouterr().out
    assert "no broker" in shown
    assert f"user@127.0.0.1:{port}" in shown
    assert "hunter2" not in shown


def test_a_line_names_the_span_that_it_was_written_in(job):
    """Which may be one inside of the job's: the same keys as OpenTelemetry has for logs."""
    job.span = RemoteSpan(1, 2, 1)

    def say(log):
        log.info("in the job")
        with spans.tracer.start_as_current_span("inner"):
            log.info("inside")
            ours = logging.getLogger("amqpjobs.worker")
            ours.info("of another", extra={"job_id": "8", "trace_id": "another"})

    with traced() as spans:
        outer, inside, other = json_lines(say)
        [inner] = spans.named("inner")
    assert (outer["trace_id"], outer["span_id"], outer["trace_flags"]) == (
        "1".zfill(32), "2".zfill(16), "01"
    )  # fmt: skip
    assert inside["span_id"] == f"{context_of(inner).span_id:016x}"
    assert inside["trace_id"] == f"{context_of(inner).trace_id:032x}"
    assert int(inside["trace_flags"], 16) & 1
    assert other["trace_id"] == "another"


def test_a_line_outside_of_a_job_names_the_span_around_it():
    """As in a web tier."""
    with traced() as spans, spans.tracer.start_as_current_span("http"):
        [line] = json_lines(lambda log: log.info("hello"))
    [http] = spans.named("http")
    assert line["span_id"] == f"{context_of(http).span_id:016x}"


LINE_KEYS = ["timestamp", "level", "logger", "event", "traceback", "cut"]


def test_no_extra_replaces_a_key_of_the_line():
    """Filters and alerts go by them; what the user gave is kept beside."""
    extra = dict.fromkeys(LINE_KEYS, "mine") | {"extra_event": "taken"}
    [line] = json_lines(lambda log: log.info("hello", extra=extra))
    assert (line["level"], line["event"]) == ("info", "hello")
    assert "mine" not in (line["timestamp"], line["logger"])
    assert all(line[f"extra_{key}"] == "mine" for key in LINE_KEYS if key != "event")
    assert (line["extra_event"], line["extra_extra_event"]) == ("taken", "mine")


def test_no_extra_replaces_a_key_of_the_job(job):
    """Whoever logs inside of it, by a logger of their own or by `ctx.log`."""
    given = {"job": "x", "job_id": "8", "queue": "q", "attempt": 9}

    def by_job_logger():
        JobLogger(logging.getLogger("amqpjobs.job"), job.log_keys()).info("b", extra=given)

    [one] = json_lines(lambda log: log.info("a", extra=given))
    [two] = json_lines(lambda _: by_job_logger())
    for line in (one, two):
        assert {key: line[key] for key in given} == {key: job.log_keys()[key] for key in given}
        assert {key: line[f"extra_{key}"] for key in given} == given


@pytest.mark.parametrize(
    "extra",
    [
        {"key": "x" * 10**6},
        {"key": "\u00e4\0" * 10**6},
        {"key": ["x" * 1000] * 1000},
        {f"key{n}": "x" * 100 for n in range(5000)},
        {"k" * 10**6: 1},
    ],
    ids=["long", "escaped", "nested", "many", "key"],
)
def test_a_line_is_bounded(extra):
    """64 KB, one valid JSON object, and it says how long it was."""
    written = json_lines(lambda log: log.info("hello", extra=extra))
    [line] = written
    assert (line["event"], line["level"]) == ("hello", "info")
    assert line["cut"] > 65_536
    assert len(json.dumps(line, ensure_ascii=False).encode()) <= 65_536
    text = console_text(lambda log: log.info("hello", extra=extra))
    assert len(text.encode()) <= 65_536 + 1
    assert "cut=" in text[-40:]


def test_a_line_that_fits_is_whole():
    """Nothing is cut then."""
    [line] = json_lines(lambda log: log.info("hello", extra={"key": "x" * 60_000}))
    assert len(line["key"]) == 60_000
    assert "cut" not in line


def test_of_a_long_traceback_the_end_is_kept():
    """Which says what failed."""

    def fail(log):
        error = ValueError("x" * 100_000 + " the end")
        log.error("failed", exc_info=error)

    [line] = json_lines(fail)
    assert line["traceback"].rstrip().endswith("the end")
    assert line["cut"] > 100_000
