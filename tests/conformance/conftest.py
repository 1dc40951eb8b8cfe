"""The fixture `peer`: a row runs on RabbitMQ 3.10 and 4.3, and on the embedded broker as both."""

import secrets
from collections.abc import Iterator

import pytest

from tests.brokers import Brokers
from tests.conformance.client import Channel
from tests.conformance.peers import Peer, on_server
from tests.conftest import BROKER_TEST_TIMEOUT, CHOSEN, GIVEN_URL, _server

REAL = [
    pytest.param(
        version,
        id=f"rabbitmq-{version}",
        marks=[pytest.mark.broker, pytest.mark.timeout(BROKER_TEST_TIMEOUT)],
    )
    for version in (["given"] if GIVEN_URL else CHOSEN)
]


@pytest.fixture(scope="session")
def vhosts() -> Iterator[dict[str, tuple[object, str]]]:
    """By version: the server and the virtual host of this session's rows on it."""
    made: dict[str, tuple[object, str]] = {}
    yield made
    for server, name in made.values():
        server.delete_vhost(name)  # type: ignore[attr-defined]


@pytest.fixture(params=REAL)
def peer(request: pytest.FixtureRequest) -> Iterator[Peer]:
    """Every broker in turn. What a test declares through it is deleted afterwards."""
    version = request.param
    brokers: Brokers = request.getfixturevalue("brokers")
    vhosts = request.getfixturevalue("vhosts")
    if version not in vhosts:
        server = _server(request, brokers, version)
        name = f"conformance-{secrets.token_hex(4)}"
        server.add_vhost(name)
        vhosts[version] = (server, name)
    with on_server(*vhosts[version]) as found:
        yield found


@pytest.fixture
def channel(peer: Peer) -> Channel:
    """A channel on a connection of its own."""
    return peer.channel()


@pytest.fixture(params=["classic", "quorum"])
def kind(request: pytest.FixtureRequest) -> str:
    """Both types of queue."""
    return str(request.param)
