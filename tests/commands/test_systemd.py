"""Services under systemd, whose part the tests play: real processes, and what they tell it."""

import json
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.commands.test_supervision import child_pids
from tests.support.brokers.broker_server import VirtualHost, poll
from tests.support.brokers.brokers import Broker
from tests.support.programs import Ledger, Program, command, environment, running
from tests.support.sockets import connected
from tests.support.transport import port_of
from tests.support.waiting import PATIENCE

WATCHDOG = 1.5
"""Seconds that this systemd waits for a sign."""

UNTIL_KILLED = 2 * WATCHDOG

MARK = b"MARK"
"""What the tests tell themselves."""


class Word(NamedTuple):
    """One notification: when, from which process, and what."""

    at: float
    pid: int
    text: str


class Systemd:
    """A socket for notifications, which knows who sends them, and hears whom systemd hears with
    `NotifyAccess=main`: the unit's main process."""

    def __init__(self, path: Path) -> None:
        self.words: list[Word] = []
        self._channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._channel.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._channel.bind(str(path))
        self._marked = threading.Event()
        self._thread = threading.Thread(target=self._hear)
        self._thread.start()
        self.variables = {
            "NOTIFY_SOCKET": str(path),
            "WATCHDOG_USEC": str(round(WATCHDOG * 1e6)),
        }

    def _hear(self) -> None:
        while True:
            text, ancillary, _, _ = self._channel.recvmsg(4096, socket.CMSG_SPACE(12))
            if not text:
                return
            if text == MARK:
                self._marked.set()
                continue
            pid = next(struct.unpack("3i", data)[0] for _, _, data in ancillary)
            for line in text.decode().splitlines():
                self.words.append(Word(time.monotonic(), pid, line))

    def said(self, text: str, *, by: int, since: float = 0.0) -> list[Word]:
        return [w for w in self.words if w.text == text and w.pid == by and w.at > since]

    def wait_for(self, text: str, program: Program, since: float = 0.0) -> Word:
        """Until the main process has said so; a start imports much on a busy machine."""
        patience = 3 * PATIENCE if text == "READY=1" else PATIENCE
        assert poll(
            lambda: self.said(text, by=program.pid, since=since) or program.ended, patience, 0.01
        ), f"{text!r} was not said: {self.words}\n{program}"
        if program.ended:
            self._hear_all()
        found = self.said(text, by=program.pid, since=since)
        assert found, f"ended before it said {text!r}:\n{program}"
        return found[0]

    def _hear_all(self) -> None:
        """Wait until everything has been read that was sent until now."""
        self._marked.clear()
        self._send(MARK)
        assert self._marked.wait(PATIENCE)

    def _send(self, text: bytes) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto(text, self.variables["NOTIFY_SOCKET"])

    def would_kill(self, program: Program, *, timeout: float = PATIENCE) -> bool:
        """Whether no sign comes for so long that systemd would end the service."""

        def silent() -> bool:
            signs = self.said("WATCHDOG=1", by=program.pid)
            return bool(signs) and time.monotonic() - signs[-1].at > UNTIL_KILLED

        return poll(silent, timeout)

    def close(self) -> None:
        self._send(b"")  # the thread reads until then
        self._thread.join()
        self._channel.close()


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    found = Systemd(tmp_path / "notify")
    yield found
    found.close()


def consumers(env: dict[str, str]) -> int:
    """Of the queue, by AMQP, which knows at once."""
    rows = json.loads(command("queues", "--json", env=env).stdout)
    return int(next(row["consumers"] or 0 for row in rows if row["queue"] == "work"))


def test_a_worker_tells_its_whole_life(
    broker: VirtualHost, tmp_path: Path, systemd: Systemd
) -> None:
    """Ready when it consumes; alive while its loop runs, and not while a handler blocks it;
    stopping, and exit status 0."""
    env = environment(broker.url, tmp_path)
    ledger = Ledger(env)
    with running("consume", "work", env=env | systemd.variables) as worker:
        ready = systemd.wait_for("READY=1", worker)
        assert consumers(env) == 1
        systemd.wait_for("WATCHDOG=1", worker, since=ready.at)
        assert command("enqueue", "block", "--args", "1", env=env).returncode == 0
        ledger.wait_for("started", [1])
        assert systemd.would_kill(worker)
        ledger.go()
        ledger.wait_for("done", [1])
        systemd.wait_for("WATCHDOG=1", worker, since=time.monotonic())
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        systemd.wait_for("STOPPING=1", worker)
    assert [w.text for w in systemd.words].count("READY=1") == 1
    assert {w.pid for w in systemd.words} == {worker.pid}


def test_a_worker_that_cannot_start_is_never_ready(
    broker_43: VirtualHost, tmp_path: Path, systemd: Systemd
) -> None:
    """No queue, and no permission to make one: it ends, and systemd has heard of no success."""
    env = environment(broker_43.url, tmp_path, AMQPJOBS_DECLARE="false") | systemd.variables
    assert command("consume", "work", env=env).returncode == 1
    assert [w.text for w in systemd.words if w.text == "READY=1"] == []


def test_a_broker_that_is_away_is_in_the_status(
    own_broker_43: Broker, tmp_path: Path, systemd: Systemd
) -> None:
    """The service goes on, alive; and it is not ready before the broker answers."""
    env = environment(own_broker_43.url, tmp_path) | systemd.variables
    own_broker_43.pause()
    with running("consume", "work", env=env) as worker:
        opened = poll(lambda: connected(worker.pid, port_of(own_broker_43.url)), PATIENCE)
        assert opened, "it tries"
        assert systemd.said("READY=1", by=worker.pid) == []
        own_broker_43.resume()
        systemd.wait_for("READY=1", worker)
        own_broker_43.stop_app()
        lost = systemd.wait_for("STATUS=reconnecting", worker)
        systemd.wait_for("WATCHDOG=1", worker, since=lost.at)
        own_broker_43.start_app()
        systemd.wait_for("STATUS=ok", worker, since=lost.at)
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0


def test_a_parent_speaks_for_its_children(
    broker: VirtualHost, tmp_path: Path, systemd: Systemd
) -> None:
    """Ready when all are, and alive while none is blocked, whoever dies meanwhile."""
    env = environment(broker.url, tmp_path)
    ledger = Ledger(env)
    arguments = ("consume", "work", "--processes", "2")
    with running(*arguments, env=env | systemd.variables) as parent:
        ready = systemd.wait_for("READY=1", parent)
        parent.wait_for("worker is ready", times=2)
        assert consumers(env) == 2
        os.kill(min(child_pids(parent)), signal.SIGKILL)
        parent.wait_for("worker process died, starting another")
        systemd.wait_for("STATUS=1 of 2 ok; 1 of 2 starting", parent, since=ready.at)
        parent.wait_for("worker is ready", times=3)
        again = systemd.wait_for("STATUS=ok", parent, since=ready.at)
        systemd.wait_for("WATCHDOG=1", parent, since=again.at)
        assert command("enqueue", "block", "--args", "1", env=env).returncode == 0
        ledger.wait_for("started", [1])
        assert systemd.would_kill(parent), "the other one does not speak for the one that hangs"
        ledger.go()
        systemd.wait_for("WATCHDOG=1", parent, since=time.monotonic())
        parent.signal(signal.SIGTERM)
        assert parent.wait() == 0
        systemd.wait_for("STOPPING=1", parent)
    assert {w.pid for w in systemd.words} == {parent.pid}, "systemd hears nobody else"
    assert [w.text for w in systemd.words].count("READY=1") == 1


def test_the_web_tier_tells_its_whole_life(
    broker_43: VirtualHost, tmp_path: Path, systemd: Systemd
) -> None:
    """Ready when it listens, alive, stopping, and exit status 0."""
    env = environment(broker_43.url, tmp_path, AMQPJOBS_STORE_URL=f"sqlite:///{tmp_path}/store.db")
    with running("web", "--port", "0", env=env | systemd.variables) as web:
        ready = systemd.wait_for("READY=1", web)
        web.wait_for("web tier is ready")
        url = web.logged("web tier is ready")[0]["url"]
        host, _, port = url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=5):
            pass
        systemd.wait_for("WATCHDOG=1", web, since=ready.at)
        web.signal(signal.SIGTERM)
        assert web.wait() == 0
        systemd.wait_for("STOPPING=1", web)
