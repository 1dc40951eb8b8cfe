"""Our handler beside those that the application has put on the root logger."""

import functools
import io
import json
import logging
import logging.config
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.logging import RichHandler

from amqpjobs.telemetry.log_handlers import is_console
from amqpjobs.telemetry.log_stream import LogWriter
from amqpjobs.telemetry.logs import (
    JsonFormatter,
    configure_logs,
    configure_logs_again,
    configured_by_import,
)
from amqpjobs.worker.done_lines import DoneLines
from tests.support.logs import logging_of_its_own

log = logging.getLogger("amqpjobs.worker")
users = logging.getLogger("shop")


class Kept(logging.Handler):
    """As an error tracker or an exporter of logs: it writes to no stream."""

    def __init__(self, level: int = 0) -> None:
        super().__init__(level)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def events(self) -> list[str]:
        return [record.getMessage() for record in self.records]


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


def own(fn: Callable[..., None]) -> Callable[..., None]:
    """Run a test in a logging of its own, with `out` as stdout: inside of the test, since pytest
    puts its own there when it begins."""

    @functools.wraps(fn)
    def run(*args: Any, **kwargs: Any) -> None:
        with logging_of_its_own(), redirect_stdout(kwargs.get("out", io.StringIO())):
            fn(*args, **kwargs)

    return run


def configure(level: str = "info", handler: Any = "auto") -> None:
    configure_logs(level, "json", handler=handler)


def events(out: io.StringIO) -> list[str]:
    return [json.loads(line)["event"] for line in out.getvalue().splitlines()]


@own
def test_a_handler_of_the_applications_stays_and_gets_our_records(out: io.StringIO) -> None:
    """Beside our lines, which are as ever."""
    kept = Kept()
    logging.getLogger().addHandler(kept)
    configure()
    log.info("job done", extra={"job_id": "7"})
    users.info("hello")
    assert kept.events == events(out) == ["job done", "hello"]
    assert vars(kept.records[0])["job_id"] == "7"


@own
def test_ours_is_there_once(out: io.StringIO) -> None:
    """However often it is configured."""
    configure()
    configure()
    log.info("job done")
    assert events(out) == ["job done"]
    assert len(logging.getLogger().handlers) == 1


STREAMS: list[Callable[[], logging.Handler]] = [
    lambda: logging.StreamHandler(sys.stdout),
    lambda: logging.StreamHandler(sys.stderr),
    lambda: logging.StreamHandler(sys.__stderr__),
    lambda: RichHandler(console=Console(file=sys.stdout)),
]


@pytest.mark.parametrize("make", STREAMS, ids=["stdout", "stderr", "first stderr", "rich"])
@own
def test_a_console_of_the_applications_takes_the_place_of_ours(
    out: io.StringIO, make: Callable[[], logging.Handler]
) -> None:
    """Or each line would be there twice. With `always` it is the other way round."""
    handler = make()
    logging.getLogger().addHandler(handler)
    configure()
    assert logging.getLogger().handlers == [handler]
    configure(handler="always")
    [ours] = logging.getLogger().handlers
    assert isinstance(ours, LogWriter)


def test_a_file_is_a_console_where_stdout_is_sent_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``worker > app.log`` with a handler of ``app.log``; another file is none, and none that is
    closed."""
    with (tmp_path / "app.log").open("w") as file:
        monkeypatch.setattr(sys, "stdout", file)
        same = logging.FileHandler(tmp_path / "app.log")
        other = logging.FileHandler(tmp_path / "other.log")
        assert is_console(same)
        assert not is_console(other)
        other.stream.close()
        assert not is_console(other)
        same.close()
    assert not is_console(logging.NullHandler())
    assert not is_console(logging.StreamHandler(io.StringIO()))


@own
def test_errors_alone_on_stderr_leave_the_rest_to_ours(out: io.StringIO) -> None:
    """The application writes its errors; ours writes what is below them."""
    errors = io.StringIO()
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(logging.ERROR)
    logging.getLogger().addHandler(handler)
    configure()
    handler.setStream(errors)
    log.info("job done")
    log.error("job failed")
    assert events(out) == ["job done"]
    assert errors.getvalue() == "job failed\n"


@own
def test_a_plain_format_has_our_keys_behind_the_message(out: io.StringIO) -> None:
    """Whatever stands around the message. The user's own lines are as the user has it."""
    handler = logging.StreamHandler(out)
    handler.setFormatter(logging.Formatter('{{"{levelname}": "{message}"}}', style="{"))
    logging.getLogger().addHandler(handler)
    configure()
    configure()
    log.info("job %s", "done", extra={"job_id": "7", "reason": "a b"})
    logging.getLogger().setLevel("INFO")
    users.info("hello", extra={"job_id": "7"})
    assert out.getvalue().splitlines() == [
        '{"INFO": "job done job_id=7 reason="a b""}', '{"INFO": "hello"}'
    ]  # fmt: skip


@own
def test_a_formatter_of_the_applications_own_is_left_alone(out: io.StringIO) -> None:
    """It may write the keys itself."""
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter := JsonFormatter())
    logging.getLogger().addHandler(handler)
    configure()
    assert handler.formatter is formatter


@own
def test_never_changes_nothing(out: io.StringIO) -> None:
    """Logging is the application's alone."""
    handler = logging.StreamHandler(out)
    logging.getLogger().addHandler(handler)
    configure("debug", handler="never")
    assert logging.getLogger().handlers == [handler]
    assert handler.formatter is None
    assert logging.getLogger().level == logging.WARNING
    assert [logging.getLogger(name).level for name in ("amqpjobs", "uvicorn")] == [0, 0]


# --- levels ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("root_level", "handlers", "ours", "theirs"),
    [
        ("WARNING", 0, ["info"], None),
        ("WARNING", 1, ["info"], ["info"]),
        ("DEBUG", 1, ["info"], ["debug", "info"]),
        ("DEBUG", 0, ["info"], None),
    ],
)
@own
def test_the_level_is_ours_and_handlers_that_want_more_get_more(
    out: io.StringIO, root_level: str, handlers: int, ours: list[str], theirs: list[str] | None
) -> None:
    """``AMQPJOBS_LOG_LEVEL`` is for our lines, of which there are none at debug for anybody."""
    kept = Kept()
    logging.getLogger().setLevel(root_level)
    if handlers:
        logging.getLogger().addHandler(kept)
    configure()
    log.debug("a step of ours")
    users.debug("debug")
    users.info("info")
    assert events(out) == ours
    if theirs is not None:
        assert kept.events == theirs


@own
def test_with_a_console_of_its_own_the_applications_lines_have_its_level(out: io.StringIO) -> None:
    """And ours have ours."""
    logging.basicConfig(level="WARNING", stream=out, format="%(message)s")
    configure()
    users.info("no")
    log.info("job done")
    assert out.getvalue() == "job done\n"


@own
def test_a_level_that_the_application_has_set_for_us_stays(out: io.StringIO) -> None:
    """On purpose, and not by leaving something out."""
    logging.basicConfig(level="WARNING", stream=out, format="%(message)s")
    logging.getLogger("amqpjobs").setLevel("ERROR")
    logging.getLogger("uvicorn").setLevel("INFO")
    configure()
    log.warning("no")
    assert out.getvalue() == ""
    assert logging.getLogger("uvicorn").level == logging.INFO


@pytest.mark.parametrize("level", ["WARNING", "DEBUG"])
@own
def test_a_level_alone_keeps_the_fast_path(level: str) -> None:
    """Only who sees the record of a job that is done pays for it."""
    logging.getLogger().setLevel(level)
    logging.getLogger("shop").setLevel("DEBUG")
    logging.getLogger("shop").addHandler(Kept())
    logging.getLogger().addHandler(Kept(logging.ERROR))
    configure_logs("info", "json", buffered=True)
    assert DoneLines(log).buffer() is logging.getLogger().handlers[-1]


# --- dictConfig --------------------------------------------------------------------------------


DJANGOS: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": True,
    "formatters": {"verbose": {"format": "{levelname} {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "verbose"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
}


@pytest.mark.parametrize("handler", ["auto", "always", "never"])
@own
def test_a_dict_config_that_names_others_does_not_silence_us(handler: str) -> None:
    """`disable_existing_loggers` is true unless it is written."""
    logging.config.dictConfig({"version": 1, "loggers": {"shop": {}}})
    assert log.disabled
    configure(handler=handler)
    assert not log.disabled


@own
def test_what_a_hook_configures_is_looked_at_again(out: io.StringIO) -> None:
    """A worker's hook that calls ``django.setup()``."""
    configure()
    configure_logs_again()
    before = list(logging.getLogger().handlers)
    configure_logs_again()
    assert logging.getLogger().handlers == before, "nothing has changed"
    logging.config.dictConfig(DJANGOS | {"root": {"handlers": [], "level": "INFO"}})
    assert logging.getLogger().handlers == []
    configure_logs_again()
    log.info("job done")
    assert events(out) == ["job done"]


@own
def test_a_program_that_has_not_configured_ours_is_left_alone(out: io.StringIO) -> None:
    """As a library we add no handler. Ours are not silent there either."""
    log.disabled = True
    configure_logs_again()
    assert logging.getLogger().handlers == []
    assert not log.disabled
    with configured_by_import():
        logging.basicConfig(stream=out, format="%(message)s")
    assert len(logging.getLogger().handlers) == 1


@own
def test_an_import_configures_as_if_nothing_of_ours_were_there(out: io.StringIO) -> None:
    """In the process of a job ours comes first; ``basicConfig`` does nothing beside a handler."""
    configure()
    with configured_by_import():
        logging.basicConfig(stream=out, format="mine %(message)s")
        assert logging.getLogger().level == logging.WARNING
    log.info("job done")
    assert out.getvalue() == "mine job done\n"


@own
def test_an_import_that_fails_leaves_our_handler(out: io.StringIO) -> None:
    """What failed is logged."""
    configure()
    with pytest.raises(ImportError), configured_by_import():
        raise ImportError
    log.info("it failed")
    assert events(out) == ["it failed"]
