"""Runs a client's suite in a process of its own, and reads what came of each test."""

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

from tests.conformance.suites.catalogue import TOOLS, Suite
from tests.support.pypi import folder_of
from tests.support.sdists import source_of

PLUGIN: Final = Path(__file__).parent / "plugin"

TEST_TIMEOUT: Final = 60
"""Seconds for a single test; the slowest need 7 on an idle machine."""

SUITE_TIMEOUT: Final = 600
"""Seconds for a suite; the slowest needs 40 on an idle machine with two cores."""

Outcome: TypeAlias = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What came of a suite.

    Attributes:
        by_test: the outcome of each test by its id: file and name.
        output: the end of what pytest printed.
    """

    by_test: dict[str, Outcome]
    output: str

    def counts(self) -> Counter[Outcome]:
        """How many tests have passed, failed, or were skipped by the suite itself."""
        return Counter(self.by_test.values())


def run_suite(suite: Suite, host: str, port: int, folder: Path) -> Outcomes:
    """Run it on the broker that is there.

    Args:
        suite: of which client.
        host: of the broker.
        port: of the broker.
        folder: for the report.
    """
    source = source_of(suite.name, suite.version, suite.sha256, TOOLS)
    report = folder / "report.xml"
    command = [sys.executable, "-m", "pytest", *suite.paths, *suite.options, "-q", "--tb=short"]
    # Some of their tests have a second for what takes longer on a busy machine. What fails for
    # another reason fails again.
    command += ["--durations=25", "-p", "pytest_rerunfailures", "--reruns=2"]
    command += [f"--timeout={TEST_TIMEOUT}", "-p", "no:cacheprovider", "-p", "pytest_timeout"]
    command += [part for plugin in suite.plugins for part in ("-p", plugin)]
    command += [f"--junit-xml={report}", "-W", "ignore", f"--basetemp={folder / 'temp'}"]
    done = subprocess.run(
        command, cwd=source, env=_environment(host, port), capture_output=True, text=True,
        timeout=SUITE_TIMEOUT, check=False,
    )  # fmt: skip
    assert report.exists(), (
        f"{suite.name} did not run:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    )
    return Outcomes(_read(report), done.stdout[-20_000:])


def _environment(host: str, port: int) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return kept | {
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONDONTWRITEBYTECODE": "1",  # its folder is shared
        "PYTHONPATH": os.pathsep.join([str(folder_of(TOOLS)), str(PLUGIN)]),
        "SUITE_HOST": host,
        "SUITE_PORT": str(port),
        # amqp and kombu
        "RABBITMQ_HOST": host,
        "RABBITMQ_5672_TCP": str(port),
        # amqpstorm
        "AMQP_HOST": host,
        "AMQP_USERNAME": "guest",
        "AMQP_PASSWORD": "guest",
        "AMQP_URI": f"amqp://guest:guest@{host}:{port}/%2F",
    }


def _read(report: Path) -> dict[str, Outcome]:
    outcomes: dict[str, Outcome] = {}
    for case in ET.parse(report).iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        kinds = {child.tag for child in case}
        outcome: Outcome = "passed"
        if kinds & {"failure", "error"}:
            outcome = "failed"
        elif "skipped" in kinds:
            outcome = "skipped"
        # A test whose clean-up fails as well is in there twice.
        if outcomes.get(name) != "failed":
            outcomes[name] = outcome
    return outcomes
