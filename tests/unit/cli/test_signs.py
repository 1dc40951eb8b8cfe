"""What a parent tells systemd of its worker processes: one voice for all of them."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from amqpjobs.cli.supervisor.notify_relay import Signs


class Systemd:
    """Plays its part: a socket, and what came."""

    def __init__(self, path: Path) -> None:
        self._channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._channel.bind(str(path))
        self._channel.setblocking(False)

    def heard(self) -> list[str]:
        words = []
        while True:
            try:
                words.append(self._channel.recv(4096).decode())
            except BlockingIOError:
                return words

    def close(self) -> None:
        self._channel.close()


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Systemd]:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    found = Systemd(tmp_path / "notify")
    yield found
    found.close()


@pytest.fixture
def signs(systemd: Systemd) -> Iterator[Signs]:
    """Of two children."""
    made = Signs(2)
    yield made
    made.close()


def tell(environment: dict[str, str], *words: str) -> None:
    """As a child does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        for each in words:
            channel.sendto(each.encode(), environment["NOTIFY_SOCKET"])


ALL = [True, True]


def test_it_is_ready_when_all_are_and_says_so_once(systemd: Systemd, signs: Signs) -> None:
    """Else whoever starts the unit believes that all its workers consume."""
    first, second = signs.environment(0), signs.environment(1)
    tell(first, "WATCHDOG=1", "READY=1")
    signs.look(ALL, stopping=False)
    assert systemd.heard() == ["STATUS=1 of 2 ok; 1 of 2 starting", "WATCHDOG=1"]
    tell(second, "READY=1")
    signs.look(ALL, stopping=False)
    assert systemd.heard() == ["READY=1", "STATUS=ok"]
    tell(second, "READY=1")
    signs.look(ALL, stopping=False)
    assert systemd.heard() == []


def test_it_is_alive_only_while_each_of_them_is(systemd: Systemd, signs: Signs) -> None:
    """One whose event loop is blocked says nothing, and then neither does the parent."""
    first, second = signs.environment(0), signs.environment(1)
    tell(first, "WATCHDOG=1")
    tell(second, "WATCHDOG=1")
    signs.look(ALL, stopping=False)
    assert "WATCHDOG=1" in systemd.heard()
    for _ in range(3):
        tell(first, "WATCHDOG=1")
        signs.look(ALL, stopping=False)
    assert "WATCHDOG=1" not in systemd.heard()
    tell(second, "WATCHDOG=1")
    signs.look(ALL, stopping=False)
    assert "WATCHDOG=1" in systemd.heard()


def test_one_that_died_is_not_waited_for_and_its_successor_is(
    systemd: Systemd, signs: Signs
) -> None:
    """What the dead one had said is not taken for the word of the next."""
    first, second = signs.environment(0), signs.environment(1)
    tell(first, "READY=1", "WATCHDOG=1")
    tell(second, "READY=1", "WATCHDOG=1")
    signs.look(ALL, stopping=False)
    systemd.heard()
    tell(second, "WATCHDOG=1")
    signs.look([False, True], stopping=False)
    assert systemd.heard() == ["STATUS=1 of 2 ok; 1 of 2 starting", "WATCHDOG=1"]
    third = signs.environment(0)
    tell(second, "WATCHDOG=1")
    signs.look(ALL, stopping=False)
    assert systemd.heard() == ["WATCHDOG=1"]
    tell(third, "READY=1", "WATCHDOG=1")
    signs.look(ALL, stopping=False)
    assert systemd.heard() == ["STATUS=ok"], "the second has said nothing since"


def test_what_each_of_them_says_is_counted(systemd: Systemd, signs: Signs) -> None:
    """For `systemctl status`."""
    for place in (0, 1):
        tell(signs.environment(place), "READY=1", "STATUS=ok")
    signs.look(ALL, stopping=False)
    systemd.heard()
    tell({"NOTIFY_SOCKET": signs.environment(1)["NOTIFY_SOCKET"]}, "READY=1", "STATUS=reconnecting")
    signs.look(ALL, stopping=False)
    assert "STATUS=1 of 2 ok; 1 of 2 reconnecting" in systemd.heard()
    assert repr(signs) == "<Signs: 1 of 2 ok; 1 of 2 reconnecting>"


def test_while_none_has_spoken_the_parent_speaks_for_itself(systemd: Systemd, signs: Signs) -> None:
    """It is not blocked: its children are starting, again and again perhaps."""
    signs.look([False, False], stopping=False)
    assert "WATCHDOG=1" in systemd.heard()
    signs.look([False, False], stopping=False)
    assert systemd.heard() == [], "not more often than it would itself"


def test_stopping_is_said_once_and_nothing_after_it(systemd: Systemd, signs: Signs) -> None:
    """What the children say on their way out is their own."""
    environment = signs.environment(0)
    signs.look(ALL, stopping=True)
    assert systemd.heard() == ["STOPPING=1", "STATUS=stopping"]
    tell(environment, "STOPPING=1", "READY=1", "WATCHDOG=1")
    signs.look([False, False], stopping=True)
    assert systemd.heard() == []


def test_a_child_has_the_watchdog_that_its_parent_has(
    systemd: Systemd, signs: Signs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemd asks the parent by its process id."""
    from amqpjobs.telemetry.health.heartbeat import watchdog_interval

    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert watchdog_interval() is None, "it is somebody else's"
    for name, value in signs.environment(0).items():
        monkeypatch.setenv(name, value)
    assert watchdog_interval() == 10.0
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert watchdog_interval() == 10.0
    for nonsense in ("", "0", "soon"):
        monkeypatch.setenv("WATCHDOG_USEC", nonsense)
        assert watchdog_interval() is None


def test_the_sockets_are_gone_in_the_end(systemd: Systemd) -> None:
    """And were nobody else's meanwhile."""
    made = Signs(1)
    folder = Path(made.environment(0)["NOTIFY_SOCKET"]).parent
    assert folder.stat().st_mode & 0o077 == 0
    made.close()
    assert not folder.exists()
