"""`amqpjobs health`: one probe, reached with typer and without."""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from amqpjobs.cli import main as entry
from amqpjobs.cli.probe import plain_probe
from amqpjobs.cli.program import program_for
from amqpjobs.telemetry.health import heartbeat_file

PLAIN: list[list[str]] = [
    [],
    ["--strict"],
    ["--file", "{ok}"],
    ["--file={ok}"],
    ["--file", "{blocked}"],
    ["--strict", "--file", "{blocked}"],
    ["--file", "{blocked}", "--strict", "--strict"],
    ["--file", "{missing}"],
    ["--file", "{missing}", "--file", "{ok}"],
    ["--file", "{old}"],
    ["--max-age", "7", "--file", "{old}"],
    ["--max-age=100.5", "--file={old}"],
    ["--max-age", "100", "--file", "{old}", "--strict"],
    ["--file", "{shared}"],
    ["--strict", "--file", "{shared}"],
]
"""Read without typer."""

OTHERS: list[list[str]] = [
    ["--help"],
    ["--file"],
    ["--file", ""],
    ["--file", "-x"],
    ["--file", "{ok}", "more"],
    ["--max-age", "0.5"],
    ["--max-age", "soon"],
    ["--max-age", "-1"],
    ["--max-age", "nan"],
    ["--stric"],
    ["--strict=yes"],
    ["-h"],
    ["--", "--strict"],
]
"""Left to typer, with their mistakes."""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Heartbeat files in all conditions, by name; the time stands still."""
    now = time.time()
    monkeypatch.setattr(heartbeat_file, "time", SimpleNamespace(time=lambda: now))
    contents = {
        "ok": "1 ok\n", "blocked": "1 blocked: low on memory\x1b[2J\n", "old": "1 ok\n",
        "shared.0": "2 ok\n", "shared.1": "3 not consuming: a\n",
    }  # fmt: skip
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
        os.utime(tmp_path / name, (now, now))
    long_ago = now - 40
    os.utime(tmp_path / "old", (long_ago, long_ago))
    return {name: str(tmp_path / name) for name in ("ok", "blocked", "old", "missing", "shared")}


@pytest.mark.parametrize("environment", ["set", "empty", "unset"])
@pytest.mark.parametrize("arguments", PLAIN, ids=" ".join)
def test_a_probe_without_typer_says_what_one_with_it_says(
    arguments: list[str],
    environment: str,
    files: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Output, messages and exit status are the same: it is the same probe."""
    given = ["health", *(each.format(**files) for each in arguments)]
    monkeypatch.delenv("AMQPJOBS_HEARTBEAT_FILE", raising=False)
    if environment != "unset":
        found = files["ok"] if environment == "set" else ""
        monkeypatch.setenv("AMQPJOBS_HEARTBEAT_FILE", found)
    monkeypatch.setattr(sys, "argv", ["amqpjobs", *given])
    without = ended(capsys)
    monkeypatch.setattr(entry, "plain_probe", lambda *_: None)
    assert without == ended(capsys)
    assert without[0] in (0, 1, 2)


def ended(capsys: pytest.CaptureFixture[str]) -> tuple[object, str, str]:
    """Status and output of the program."""
    with pytest.raises(SystemExit) as exit_:
        entry.main()
    out, err = capsys.readouterr()
    return exit_.value.code or 0, out, err


@pytest.mark.parametrize("arguments", OTHERS, ids=" ".join)
def test_what_is_unusual_goes_to_typer(arguments: list[str], files: dict[str, str]) -> None:
    """Help and mistakes are worded in one place."""
    given = ["health", *(each.format(**files) for each in arguments)]
    assert plain_probe(given, {}) is None
    done = CliRunner().invoke(program_for(), given)
    assert (done.exit_code == 0) == ("--help" in given)


def test_other_commands_and_completion_go_to_typer() -> None:
    """Only a plain `health` is read here."""
    assert plain_probe([], {}) is None
    assert plain_probe(["consume"], {}) is None
    assert plain_probe(["--debug", "health"], {}) is None
    assert plain_probe(["health"], {"_AMQPJOBS_COMPLETE": "complete_bash"}) is None
    assert plain_probe(["health"], {"AMQPJOBS_DEBUG": "perhaps"}) is None
    assert plain_probe(["health"], {"AMQPJOBS_DEBUG": "1"}) is not None


HEAVY = ("typer", "click", "pydantic", "pydantic_settings", "asyncio", "rich", "aio_pika")


def test_a_probe_imports_little(files: dict[str, str]) -> None:
    """It runs every few seconds beside each worker: 0.6 s of processor time with these."""
    code = (
        "import sys; from amqpjobs.cli.main import main\n"
        "try: main()\n"
        f"finally: print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    given = [sys.executable, "-c", code, "health", "--file", files["ok"]]
    done = subprocess.run(given, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("healthy: ok, "), done.stderr
    assert done.stdout.splitlines()[1] == "[]"


def test_a_reader_that_has_gone_is_no_traceback(files: dict[str, str]) -> None:
    """As of every other command: exit status 1, and no word of Python's."""
    given = [sys.executable, "-m", "amqpjobs", "health", "--file", files["ok"]]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(given, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")
