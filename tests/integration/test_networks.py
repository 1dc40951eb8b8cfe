"""The networks that tests of a cluster have for themselves."""

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.brokers.broker_guard import Guard
from tests.support.brokers.broker_server import poll
from tests.support.brokers.network import Namespace, NoNetworkError

pytestmark = pytest.mark.cluster


@pytest.fixture
def guard() -> Iterator[Guard]:
    """Ends what is left."""
    made = Guard()
    yield made
    made.close()


def links() -> str:
    """The interfaces that this thread sees."""
    return subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout


def network() -> str:
    """The network that this thread is in."""
    return str(Path("/proc/thread-self/ns/net").readlink())


def test_a_network_is_seen_inside_alone(guard: Guard) -> None:
    """The machine's own interfaces are as they were, and a thread comes back to them."""
    before, own = links(), network()
    space = Namespace(guard)
    space.ip("link", "add", "clients", "type", "bridge")
    space.ip("address", "add", "10.77.1.254/24", "dev", "clients")
    space.ip("link", "set", "clients", "up")
    assert links() == before
    with space.entered():
        assert network() != own
        assert "clients" in links()
        with socket.socket() as served:
            served.bind(("10.77.1.254", 0))
    assert network() == own
    assert links() == before
    space.end()


def test_a_network_ends_with_the_session_in_whatever_way() -> None:
    """Its process is ended by the guard, and nothing else holds it."""
    own = Guard()
    space = Namespace(own)
    assert space.held
    own.close()
    assert poll(lambda: not space.held, 10.0)


def test_a_machine_that_allows_no_networks_is_told(
    guard: Guard, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With what to do: such tests fail there, and are not skipped."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoNetworkError, match=r"Run them as root .* NET_ADMIN .*not cluster"):
        Namespace(guard)
    refusing = tmp_path / "unshare"
    refusing.write_text("#!/bin/sh\necho unshare failed: Operation not permitted\n")
    refusing.chmod(0o755)
    with pytest.raises(NoNetworkError, match="Operation not permitted"):
        Namespace(guard)
