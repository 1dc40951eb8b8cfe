"""The page on conformance has the suites as the catalogue has them."""

from pathlib import Path

import pytest

from tests.conformance.suites.catalogue import SUITES, Suite

PAGE = (Path(__file__).parents[3] / "amqpjobs/guide/conformance.md").read_text()


@pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)
def test_the_guide_has_the_suite(suite: Suite) -> None:
    """Its version, how many of its tests are run, and how many of these fail on which version."""
    [line] = [line for line in PAGE.splitlines() if line.startswith(f"| {suite.name} ")]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[:2] == [f"{suite.name} {suite.version}", str(suite.tests)]
    for version, cell in zip(("3.10", "4.3"), cells[2:4], strict=True):
        assert (cell == "none") == (not suite.fails.get(version))


def test_rabbitmq_and_the_embedded_broker_do_not_differ() -> None:
    """What fails does so on both; the page says that no test tells them apart."""
    assert {version for suite in SUITES.values() for version in suite.fails} <= {"3.10", "4.3"}
