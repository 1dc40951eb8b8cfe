"""Fixtures for tests on real RabbitMQ servers; see `tests/support/brokers/brokers.py`.

A test that takes `broker` runs on every version, in a virtual host of its own. A RabbitMQ that is
not installed is a failure, never a skip. Without any: `-m "not broker"`.

`AMQPJOBS_TEST_BROKERS=4.3` chooses versions. `AMQPJOBS_TEST_URL=amqp://user:password@host/` uses
that server instead, with its management API at `AMQPJOBS_TEST_MANAGEMENT_URL` (default: the same
host, port 15672); the user must be an administrator, for every test has a virtual host of its own.
"""

import os
import signal
from collections.abc import Callable, Iterator
from typing import Final
from urllib.parse import urlsplit

import pytest

from tests.support.brokers.broker_server import Server, VirtualHost, virtual_host
from tests.support.brokers.brokers import (
    RELEASES,
    Broker,
    BrokerFailedError,
    BrokerMissingError,
    Brokers,
)
from tests.support.brokers.postgres import Postgres, PostgresMissingError

GIVEN_URL: Final = os.environ.get("AMQPJOBS_TEST_URL", "")
CHOSEN: Final = tuple(
    version.strip()
    for version in os.environ.get("AMQPJOBS_TEST_BROKERS", ",".join(RELEASES)).split(",")
)
PARAMS: Final = (
    [pytest.param("given", id="given")]
    if GIVEN_URL
    else [pytest.param(version, id=f"rabbitmq-{version}") for version in CHOSEN]
)
OWN_PARAMS: Final = [pytest.param(version, id=f"rabbitmq-{version}") for version in CHOSEN]

# The first test on a version waits for its node to start, on a machine that may be busy.
BROKER_TEST_TIMEOUT: Final = 120


def pytest_configure() -> None:
    """Refuse a version that nobody can start, before any test runs."""
    unknown = set(CHOSEN) - set(RELEASES)
    if unknown:
        raise pytest.UsageError(f"AMQPJOBS_TEST_BROKERS: {unknown} not among {set(RELEASES)}")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell starts what it puts into the background so, and what tests start would inherit it:
        # no Ctrl-C would reach it.
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> str:
    """Say which servers the broker tests run on."""
    if GIVEN_URL:
        return f"RabbitMQ: the one given at {urlsplit(GIVEN_URL).hostname}"
    return f"RabbitMQ: private nodes, {', '.join(CHOSEN)}"


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need a real broker."""
    for item in items:
        if "brokers" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.broker)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(BROKER_TEST_TIMEOUT))


def _versions(items: list[pytest.Item], fixture: str) -> set[str]:
    """The versions that the collected tests ask that fixture for."""
    parameters = (getattr(item, "callspec", None) for item in items)
    asked = {call.params[fixture] for call in parameters if call and fixture in call.params}
    return asked & set(RELEASES)


@pytest.fixture(scope="session")
def brokers(request: pytest.FixtureRequest) -> Iterator[Brokers]:
    """The session's RabbitMQ nodes; all that the tests will need start side by side."""
    nodes = Brokers()
    try:
        for version in _versions(request.session.items, "broker"):
            try:
                nodes.launch(version)
            except BrokerMissingError:
                continue  # the tests that need it fail, and say so
        yield nodes
    finally:
        nodes.close()


def _node(brokers: Brokers, version: str, purpose: str = "shared") -> Broker:
    if version not in CHOSEN:
        pytest.skip(f"RabbitMQ {version} is not among AMQPJOBS_TEST_BROKERS")
    try:
        return brokers.get(version, purpose)
    except (BrokerMissingError, BrokerFailedError) as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def given_server() -> Server:
    """The server that `AMQPJOBS_TEST_URL` names."""
    default = f"http://{urlsplit(GIVEN_URL).hostname}:15672"
    management = os.environ.get("AMQPJOBS_TEST_MANAGEMENT_URL", default)
    try:
        return Server(GIVEN_URL, management)
    except Exception as error:
        pytest.fail(
            f"The server in AMQPJOBS_TEST_URL has no usable management API at {management}"
            f" (AMQPJOBS_TEST_MANAGEMENT_URL): {error}",
            pytrace=False,
        )


def _server(request: pytest.FixtureRequest, brokers: Brokers, version: str) -> Server:
    if not GIVEN_URL:
        return _node(brokers, version)
    given: Server = request.getfixturevalue("given_server")
    if version not in ("given", given.version):
        pytest.skip(f"needs RabbitMQ {version}; the given one is {given.version}")
    return given


@pytest.fixture(params=PARAMS)
def broker(request: pytest.FixtureRequest, brokers: Brokers) -> Iterator[VirtualHost]:
    """A fresh virtual host on every RabbitMQ version in turn; the servers are shared."""
    with virtual_host(_server(request, brokers, request.param)) as vhost:
        yield vhost


@pytest.fixture
def broker_310(request: pytest.FixtureRequest, brokers: Brokers) -> Iterator[VirtualHost]:
    """A fresh virtual host on RabbitMQ 3.10."""
    with virtual_host(_server(request, brokers, "3.10")) as vhost:
        yield vhost


@pytest.fixture
def broker_43(request: pytest.FixtureRequest, brokers: Brokers) -> Iterator[VirtualHost]:
    """A fresh virtual host on RabbitMQ 4.3."""
    with virtual_host(_server(request, brokers, "4.3")) as vhost:
        yield vhost


def _own(brokers: Brokers, version: str) -> Iterator[Broker]:
    if GIVEN_URL:
        pytest.skip("kills its server, and the given one is not ours to kill")
    node = _node(brokers, version, "own")
    yield node
    try:
        node.heal()
    except Exception:
        # What a test has broken for good must not meet the next one: that gets a new node.
        brokers.end(version, "own")


@pytest.fixture(params=OWN_PARAMS)
def own_broker(request: pytest.FixtureRequest, brokers: Brokers) -> Iterator[Broker]:
    """A node of every version in turn that the test may kill, pause and stop.

    It is healed afterwards, and everything in it is deleted: its `url` is for this test alone.
    """
    yield from _own(brokers, request.param)


@pytest.fixture
def own_broker_310(brokers: Brokers) -> Iterator[Broker]:
    """`own_broker`, RabbitMQ 3.10 only."""
    yield from _own(brokers, "3.10")


@pytest.fixture
def own_broker_43(brokers: Brokers) -> Iterator[Broker]:
    """`own_broker`, RabbitMQ 4.3 only."""
    yield from _own(brokers, "4.3")


@pytest.fixture
def new_broker(brokers: Brokers) -> Iterator[Callable[[str], Broker]]:
    """Start one more node of a version, for tests with two servers; it ends with the test."""
    names: list[tuple[str, str]] = []

    def start(version: str) -> Broker:
        names.append((version, f"extra-{len(names)}"))
        return _node(brokers, *names[-1])

    yield start
    for name in names:
        brokers.end(*name)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One server for the session; each test has a database of its own in it."""
    try:
        server = Postgres()
    except PostgresMissingError as error:
        pytest.fail(str(error), pytrace=False)
    yield server
    server.close()
