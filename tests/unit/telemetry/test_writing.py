"""Log lines that cannot be written: nothing is raised or printed, and they are counted."""

import io
import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import TextIO

import pytest

from amqpjobs.cli.ending import flush_output
from amqpjobs.telemetry.log_stream import LogWriter
from amqpjobs.telemetry.logs import JsonFormatter, configure_logs
from tests.support.logs import logging_of_its_own
from tests.support.programs import KEPT, ROOT


class Disk(io.StringIO):
    """Full, or not."""

    full = False

    def write(self, text: str) -> int:
        if self.full:
            raise OSError(28, "No space left on device")
        return super().write(text)


def logger_to(stream: TextIO) -> logging.Logger:
    handler = LogWriter(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.Logger("tests")
    logger.addHandler(handler)
    return logger


def test_lines_that_could_not_be_written_are_counted_in_the_next_that_can(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A disk was full for a while."""
    disk = Disk()
    logger = logger_to(disk)
    logger.info("before")
    disk.full = True
    logger.info("lost")
    logger.info("lost")
    disk.full = False
    logger.info("after")
    logger.info("and on")
    lines = [json.loads(line) for line in disk.getvalue().splitlines()]
    assert [(line["event"], line.get("lines")) for line in lines] == [
        ("before", None), ("after", None), ("log could not be written", 2), ("and on", None),
    ]  # fmt: skip
    assert capsys.readouterr().err == ""


def test_a_stream_that_was_closed_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    """As at the end of a program."""
    stream = io.StringIO()
    logger = logger_to(stream)
    stream.close()
    logger.info("lost")
    assert capsys.readouterr().err == ""


def test_a_wrong_format_string_is_shown_as_ever(capsys: pytest.CaptureFixture[str]) -> None:
    """It is the caller's, and says where."""
    logger_to(io.StringIO()).info("%d", "no number")
    assert "--- Logging error ---" in capsys.readouterr().err


@pytest.mark.parametrize("closing", [">&-", ">/dev/full", ">&- 2>&-", ">/dev/full 2>&1"])
def test_a_program_runs_without_its_output(closing: str, tmp_path: Path) -> None:
    """And ends with the status that it would have had."""
    code = (
        "import logging, sys; from amqpjobs.cli.ending import flush_output; "
        "from amqpjobs.telemetry.logs import configure_logs; configure_logs('info', 'auto'); "
        "logging.info('a line'); flush_output(); open(sys.argv[1], 'w').write('ran')"
    )
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {closing}', "sh", sys.executable, "-c", code, tmp_path / "ran"],
        cwd=ROOT, env=KEPT | {"PYTHONUNBUFFERED": ""}, capture_output=True, text=True,
        timeout=40, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "ran").exists()


def test_what_stands_for_stdout_may_have_a_write_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A program's own object, as `logging` and notebooks put there."""
    written: list[str] = []

    class Own:
        def write(self, text: str) -> int:
            written.append(text)
            return len(text)

        def flush(self) -> None: ...

    monkeypatch.setattr(sys, "stdout", Own())
    with logging_of_its_own():
        configure_logs("info", "auto", buffered=True)
        logging.getLogger("tests").info("a line")
        flush_output()
    assert json.loads("".join(written))["event"] == "a line"
