"""Other clients' own test suites come to the same on RabbitMQ and on the embedded broker.

All that are chosen run side by side, `AT_ONCE` at a time: most of their time they wait.

`AMQPJOBS_SUITES_REPORT=FOLDER` keeps each suite's outcomes and the end of its output there.
"""

import json
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from amqpjobs.broker.embedded import Broker
from tests.conformance.peers import RELEASES, address_of
from tests.conformance.suites.catalogue import SUITES, Suite
from tests.conformance.suites.running import SUITE_TIMEOUT, Outcomes, run_suite
from tests.conftest import CHOSEN, GIVEN_URL, _server
from tests.support.brokers.brokers import Brokers

AT_ONCE = 4

PLACES = {"rabbitmq": () if GIVEN_URL else CHOSEN, "embedded": tuple(RELEASES)}
"""Not on a server that somebody else has started: the suites log in as guest, to /."""

WHERE = [
    pytest.param(
        (place, version),
        id=f"{place}-{version}",
        marks=[pytest.mark.broker] if place == "rabbitmq" else [],
    )
    for place, versions in PLACES.items()
    for version in versions
]

pytestmark = [pytest.mark.programs, pytest.mark.timeout(3 * SUITE_TIMEOUT)]


def differences(suite: Suite, place: str, version: str, outcomes: Outcomes) -> list[str]:
    """What has come out otherwise than the catalogue says, a line each."""
    expected = suite.expected(place, version)
    found = []
    for test, outcome in outcomes.by_test.items():
        if any(test.startswith(prefix) for prefix in suite.unstable):
            continue
        reason = next((why for prefix, why in expected.items() if test.startswith(prefix)), None)
        if outcome == "failed" and reason is None:
            found.append(f"fails: {test}")
        elif outcome == "passed" and reason is not None:
            found.append(f"passes, and should fail ({reason}): {test}")
    found.extend(
        f"there is no such test any more: {prefix}"
        for prefix in (*expected, *suite.unstable)
        if not any(test.startswith(prefix) for test in outcomes.by_test)
    )
    return found


def _reported(folder: Path, outcomes: Outcomes) -> Outcomes:
    """Keep what has come of a run, if somebody wants it."""
    report = os.environ.get("AMQPJOBS_SUITES_REPORT")
    if report:
        Path(report, f"{folder.name}.json").write_text(json.dumps(outcomes.by_test, indent=1))
        Path(report, f"{folder.name}.txt").write_text(outcomes.output)
    return outcomes


class Runs:
    """The suites' runs of this session, which begin with the first test that waits for one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pool = ThreadPoolExecutor(AT_ONCE)
        self._runs: dict[tuple[str, str, str], Future[Outcomes]] = {}

    def begin(self, suite: Suite, place: str, version: str, url: str | None) -> None:
        """Run a suite on the broker at `url`; on a new embedded one without."""
        folder = self._folder / f"{suite.name}-{place}-{version}"
        folder.mkdir()

        def run() -> Outcomes:
            if url is not None:
                address = address_of(url)
                return _reported(folder, run_suite(suite, address.host, address.port, folder))
            with Broker.in_thread(version) as broker:
                return _reported(folder, run_suite(suite, "127.0.0.1", broker.port, folder))

        self._runs[suite.name, place, version] = self._pool.submit(run)

    def outcomes(self, suite: Suite, place: str, version: str) -> Outcomes:
        """What has come of one; waits for it."""
        return self._runs[suite.name, place, version].result()

    def end(self) -> None:
        """Begin no more, and wait for those that run."""
        self._pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="session")
def runs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Runs]:
    """All that the chosen tests will need has begun."""
    made = Runs(tmp_path_factory.mktemp("suites"))
    calls = [getattr(item, "callspec", None) for item in request.session.items]
    chosen = [
        (call.params["suite"], *call.params["where"])
        for call in calls
        if call is not None and "where" in call.params
    ]
    try:
        for name, place, version in chosen:
            url = None
            if place == "rabbitmq":
                brokers: Brokers = request.getfixturevalue("brokers")
                url = _server(request, brokers, version).url
            made.begin(SUITES[name], place, version, url)
        yield made
    finally:
        made.end()


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("where", WHERE)
def test_the_suite_comes_to_what_it_should(runs: Runs, where: tuple[str, str], suite: str) -> None:
    """Every test passes but those that are listed, and those that are listed fail."""
    chosen = SUITES[suite]
    outcomes = runs.outcomes(chosen, *where)
    found = differences(chosen, *where, outcomes)
    if (count := len(outcomes.by_test)) != chosen.tests:
        found.append(f"it has {count} tests, not {chosen.tests}")
    assert not found, "\n".join([f"{chosen.name} {chosen.version}:", *found])
