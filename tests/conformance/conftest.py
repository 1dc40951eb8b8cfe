"""The fixture `peer`: a row runs on RabbitMQ 3.10 and 4.3, and on the embedded broker as both.

With ``AMQPJOBS_CONFORMANCE_REPORT=FILE`` a run writes to that file what each row came to, for
`tests.conformance.table`.
"""

import json
import os
import secrets
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.client import Channel
from tests.conformance.embedded import on_embedded
from tests.conformance.peers import RELEASES, Peer, on_server
from tests.conftest import BROKER_TEST_TIMEOUT, CHOSEN, GIVEN_URL, _server
from tests.support.brokers.broker_server import Server
from tests.support.brokers.brokers import Brokers

REAL = ["given"] if GIVEN_URL else list(CHOSEN)
RESULTS = pytest.StashKey[list[dict[str, Any]]]()


def _param(place: str, version: str) -> Any:
    real = [pytest.mark.broker, pytest.mark.timeout(BROKER_TEST_TIMEOUT)]
    marks = real if place == "rabbitmq" else []
    return pytest.param((place, version), id=f"{place}-{version}", marks=marks)


REAL_ONLY = [_param("rabbitmq", version) for version in REAL]
ALL = [*REAL_ONLY, *(_param("embedded", version) for version in RELEASES)]


def pytest_configure(config: pytest.Config) -> None:
    """Rows may say that the embedded broker does not do them."""
    config.addinivalue_line(
        "markers", "not_done(code, *versions): the embedded broker refuses it so"
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep what each row came to."""
    report = yield
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    if "peer" in parameters and (report.when == "call" or report.failed):
        not_done = item.get_closest_marker("not_done")
        results = item.config.stash.setdefault(RESULTS, [])
        results.append(
            {
                "module": Path(item.path).stem,
                "row": getattr(item, "originalname", item.name),
                "peer": "-".join(parameters["peer"]),
                "passed": report.passed,
                "refused": _refused(not_done, parameters["peer"][1]),
                **dict(item.user_properties),
            }
        )
    return report


def _refused(not_done: pytest.Mark | None, version: str) -> str | None:
    """The code that the embedded broker refuses a row with, as all versions or as that one."""
    if not_done is None or (not_done.args[1:] and version not in not_done.args[1:]):
        return None
    return str(not_done.args[0])


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the report, if one is asked for."""
    target = os.environ.get("AMQPJOBS_CONFORMANCE_REPORT")
    if target:
        Path(target).write_text(json.dumps(session.config.stash.get(RESULTS, [])))


@pytest.fixture(scope="session")
def vhosts() -> Iterator[dict[str, tuple[Server, str]]]:
    """By version: the server, and the virtual host on it that the rows of this session share."""
    made: dict[str, tuple[Server, str]] = {}
    yield made
    for server, name in made.values():
        server.delete_vhost(name)


@pytest.fixture(params=ALL)
def peer(request: pytest.FixtureRequest) -> Iterator[Peer]:
    """Every broker in turn. What a test declares through it is deleted afterwards."""
    with open_peer(request, *request.param) as found:
        yield found


def open_peer(
    request: pytest.FixtureRequest, place: str, version: str
) -> AbstractContextManager[Peer]:
    """One of the brokers, for one test."""
    if place == "embedded":
        return on_embedded(version)
    brokers: Brokers = request.getfixturevalue("brokers")
    vhosts = request.getfixturevalue("vhosts")
    if version not in vhosts:
        server = _server(request, brokers, version)
        name = f"conformance-{secrets.token_hex(4)}"
        server.add_vhost(name)
        vhosts[version] = (server, name)
    return on_server(*vhosts[version])


@pytest.fixture(params=RELEASES)
def embedded(request: pytest.FixtureRequest) -> Iterator[Peer]:
    """The embedded broker alone, as each version."""
    with on_embedded(request.param) as found:
        yield found


@pytest.fixture
def twin(peer: Peer) -> Iterator[Peer]:
    """The embedded broker as the version of the peer."""
    with on_embedded(peer.version) as found:
        yield found


@pytest.fixture
def channel(peer: Peer) -> Channel:
    """A channel on a connection of its own."""
    return peer.channel()


@pytest.fixture(params=["classic", "quorum"])
def kind(request: pytest.FixtureRequest) -> str:
    """Both types of queue."""
    return str(request.param)
