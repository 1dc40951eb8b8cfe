"""Fixtures of the fault tests; FAULTS_SEED repeats a run's random choices."""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.faults.fleet import Fleet, fleet
from tests.faults.ledger import Ledger


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the full forms out unless `-m` names them: they take hours."""
    if "full" in config.getoption("markexpr"):
        return
    full = [item for item in items if item.get_closest_marker("full")]
    if full:
        items[:] = [item for item in items if item not in full]
        config.hook.pytest_deselected(items=full)


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
def ledger(tmp_path: Path, seed: int) -> Iterator[Ledger]:
    """A ledger of the test's own."""
    books = Ledger(tmp_path / "ledger", seed)
    yield books
    books.close()


@pytest.fixture
def workers(ledger: Ledger) -> Iterator[Fleet]:
    """Workers that end with the test."""
    with fleet(ledger) as started:
        yield started
