"""The units in deploy/systemd: checked by systemd itself, and against what the program does."""

import re
import shutil
import subprocess
from configparser import RawConfigParser
from pathlib import Path
from typing import Any

import pytest

from amqpjobs.cli.supervisor.supervisor import GRACE
from amqpjobs.settings import Settings
from amqpjobs.telemetry.health.heartbeat import INTERVAL
from amqpjobs.telemetry.health.heartbeat_file import STALE
from tests.support.programs import KEPT, ROOT, command

FOLDER = ROOT / "deploy/systemd"
SERVICES = sorted(FOLDER.glob("*.service"))
NOTIFYING = [path for path in SERVICES if "Type=notify" in path.read_text()]
MOST_EXPOSED = 2.0
"""Of `systemd-analyze security`, where 10 is a service without any limit."""


class _Many(dict[str, Any]):
    """Keys may stand several times; all their values count."""

    def __setitem__(self, key: str, value: Any) -> None:
        if isinstance(value, list) and isinstance(self.get(key), list):
            value = [*self[key], *value]
        super().__setitem__(key, value)


def section(path: Path, name: str) -> dict[str, str]:
    parser = RawConfigParser(strict=False, dict_type=_Many, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(path)
    return dict(parser[name])


def analyze(*arguments: object) -> "subprocess.CompletedProcess[str]":
    program = shutil.which("systemd-analyze")
    assert program, "run deploy/ci/systemd-analyze.sh"
    return subprocess.run(
        [program, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units where their program is there, as systemd looks for that, too."""
    program = tmp_path / "amqpjobs"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    units = tmp_path / "units"
    units.mkdir()
    for path in FOLDER.iterdir():
        text = path.read_text().replace("/opt/amqpjobs/bin/amqpjobs", str(program))
        (units / path.name).write_text(text)
    return units


def test_systemd_finds_nothing_wrong_with_them(installed: Path) -> None:
    """No key that it does not know, no unit that is not there."""
    done = analyze("verify", *sorted(installed.iterdir()))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    typo = installed / "amqpjobs-web.service"
    typo.write_text(typo.read_text().replace("WatchdogSec=", "WatchdogSecs="))
    assert "WatchdogSecs" in analyze("verify", typo).stderr, "it looks at all"


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_a_service_may_do_little(path: Path) -> None:
    """As systemd counts it; a service without a limit would be at 9.6."""
    done = analyze("security", "--offline=true", f"--threshold={MOST_EXPOSED * 10:g}", path)
    assert done.returncode == 0, done.stdout
    found = re.search(r"exposure level for .*: ([\d.]+)", done.stdout)
    assert found
    assert float(found[1]) <= MOST_EXPOSED


def test_all_services_are_limited_alike() -> None:
    """What one of them may not, no other may by oversight."""
    limits = {path.read_text().partition("# The least that")[2].partition("\n[Install]")[0].rstrip()
              for path in SERVICES}  # fmt: skip
    assert len(limits) == 1
    assert "DynamicUser=yes" in limits.pop()


@pytest.mark.parametrize("path", NOTIFYING, ids=lambda path: path.name)
def test_their_times_fit_the_programs(path: Path) -> None:
    """systemd waits longer than the program takes."""
    service = section(path, "Service")
    budget = Settings.model_fields["shutdown_timeout"].default
    assert float(service["TimeoutStopSec"]) >= budget + GRACE + 5
    # A loop that is blocked is told about, and `health` gives it up, before systemd ends it.
    assert float(service["WatchdogSec"]) > max(STALE, 3 * INTERVAL)
    assert service["NotifyAccess"] == "main"
    assert service["Restart"] == "always"
    assert service["RestartPreventExitStatus"] == "2", "a mistake in the settings"
    assert section(path, "Unit")["StartLimitIntervalSec"] == "0", "a broker may be away for long"


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_secrets_are_credentials(path: Path, tmp_path: Path) -> None:
    """A file in the folder is a setting by its name; and the environment has none."""
    service = section(path, "Service")
    name, _, folder = service["LoadCredential"].partition(":")
    assert folder.startswith("/etc/amqpjobs/secrets/")
    (tmp_path / f"{name}_URL").write_text(
        "amqp://user:hunter2@127.0.0.1:1/\n"
    )  # as systemd names it
    env = KEPT | {"PYTHONPATH": str(ROOT), "AMQPJOBS_APP": "tests.support.jobs:app"}
    done = command("queues", env=env | {"AMQPJOBS_SECRETS_DIR": str(tmp_path)})
    assert "amqp://user@127.0.0.1:1/" in done.stderr
    assert "hunter2" not in done.stderr + path.read_text()


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_what_they_start_is_there(path: Path) -> None:
    """Commands and options of this release."""
    started = [line for line in path.read_text().splitlines() if line.startswith("ExecStart=")]
    assert started
    for line in started:
        words = line.split()[1:]
        names = [word for word in words if re.fullmatch(r"[a-z]+", word)]
        options = [word for word in words if word.startswith("--")]
        shown = command(*names, "--help", env=KEPT | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"})
        assert shown.returncode == 0, line
        for option in options:
            assert option in shown.stdout, line
