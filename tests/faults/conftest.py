"""Fixtures of the fault tests; FAULTS_SEED repeats a run's random choices.

Each test is marked with its row of the fault matrix, ``@pytest.mark.row("F1")``, and ends with one
line that says what it came to (``-s`` shows it, and `tests.faults.report` makes a table of many).
"""

import os
import secrets
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from random import Random

import pytest

from tests.faults.fleet import Fleet, fleet
from tests.faults.ledger import Ledger
from tests.faults.report import Entry, append

PASSED = pytest.StashKey[bool]()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the full forms out unless `-m` names them: they take hours."""
    if "faults_full" in config.getoption("markexpr"):
        return
    full = [item for item in items if item.get_closest_marker("faults_full")]
    if full:
        items[:] = [item for item in items if item not in full]
        config.hook.pytest_deselected(items=full)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember whether the test passed, for what its fixtures report."""
    report = yield
    if report.when == "call":
        item.stash[PASSED] = report.passed
    return report


@pytest.fixture
def seed() -> int:
    """Of the test's random choices; printed when it fails."""
    given = os.environ.get("FAULTS_SEED")
    return int(given) if given else secrets.randbelow(1_000_000)


@pytest.fixture
def random(seed: int) -> Random:
    """The test's random choices."""
    print(f"FAULTS_SEED={seed}")  # noqa: T201 - pytest shows it when the test fails
    return Random(seed)


@pytest.fixture
def ledger(request: pytest.FixtureRequest, tmp_path: Path, seed: int) -> Iterator[Ledger]:
    """A ledger of the test's own."""
    books = Ledger(tmp_path / "ledger", seed)
    version = _version(request)
    began = time.monotonic()
    yield books
    _close(request.node, version, books, time.monotonic() - began)
    books.close()


def _close(item: pytest.Item, version: str, books: Ledger, seconds: float) -> None:
    """The closing line of a run that has a row and came to a verdict."""
    row = item.get_closest_marker("row")
    if row is None or books.checked is None:
        return
    verdict, bound = books.checked
    entry = Entry(
        row=row.args[0],
        form="full" if item.get_closest_marker("faults_full") else "short",
        test=getattr(item, "originalname", item.name),
        version=version,
        passed=item.stash.get(PASSED, False),
        seed=books.seed,
        seconds=round(seconds, 1),
        faults=books.faults,
        jobs=verdict.confirmed,
        lost=len(verdict.lost),
        duplicated=verdict.repeated,
        bound=bound,
        notes=tuple(books.notes),
    )
    append(entry)
    print(f"\n{entry}")  # noqa: T201 - pytest shows it with -s, and when the test fails


def _version(request: pytest.FixtureRequest) -> str:
    """Of the RabbitMQ that the test runs on."""
    for name in request.fixturenames:
        if name.startswith(("broker_", "own_broker")) or name in ("broker", "cluster"):
            return str(request.getfixturevalue(name).version)
    return "none"


@pytest.fixture
def workers(ledger: Ledger) -> Iterator[Fleet]:
    """Workers that end with the test."""
    with fleet(ledger) as started:
        yield started
