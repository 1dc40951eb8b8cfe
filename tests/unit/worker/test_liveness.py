"""Signs of life: a heartbeat file, and what systemd is told."""

import asyncio
import contextlib
import os
import socket

import pytest

from amqpjobs.cli.probe import Probe
from amqpjobs.telemetry.health import heartbeat as liveness_module
from amqpjobs.telemetry.health.condition import condition
from amqpjobs.telemetry.health.heartbeat import Liveness, notify
from amqpjobs.telemetry.health.heartbeat_file import age_of, state_of
from tests.support.waiting import until


@contextlib.asynccontextmanager
async def living(file):
    task = asyncio.create_task(Liveness(file).run())
    await asyncio.sleep(0)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.fixture(autouse=True)
def _no_systemd(monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)


@pytest.fixture
def systemd(tmp_path, monkeypatch):
    """A real datagram socket, as systemd gives one."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(path)
        channel.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        yield channel


async def test_the_heartbeat_file_is_there_from_the_start_and_gone_at_the_end(tmp_path):
    """With the process id in it; its age is that of the last sign."""
    file = tmp_path / "heartbeat"
    assert age_of(file) is None
    async with living(file):
        assert file.read_text() == f"{os.getpid()} ok\n"
        assert state_of(file) == "ok"
        assert age_of(file) < 60
    assert not file.exists()


async def test_the_heartbeat_file_is_touched_again_and_again(tmp_path, monkeypatch):
    """By the event loop, so that a blocked one shows."""
    monkeypatch.setattr(liveness_module, "INTERVAL", 0.0)
    file = tmp_path / "heartbeat"
    async with living(file):
        os.utime(file, (1, 1))
        assert age_of(file) > 1_000_000
        async with asyncio.timeout(10):
            while age_of(file) > 60:
                await asyncio.sleep(0)


async def test_a_file_that_cannot_be_written_is_told_and_the_worker_lives(tmp_path, caplog):
    """Its jobs matter more."""
    async with living(tmp_path / "missing" / "heartbeat") as task:
        assert not task.done()
        assert "heartbeat file" in caplog.text
    assert task.cancelled()


async def test_a_file_that_cannot_be_removed_does_not_fail_the_stop(tmp_path):
    """Somebody put a folder in its place, or took the permission away."""
    file = tmp_path / "heartbeat"
    async with living(file) as task:
        file.unlink()
        file.mkdir()
    assert task.cancelled()


async def test_a_file_in_the_future_is_not_old(tmp_path):
    """Clocks are set back."""
    file = tmp_path / "heartbeat"
    file.write_text("")
    os.utime(file, (2**33, 2**33))
    assert age_of(file) == 0.0


async def test_systemd_is_told_that_the_loop_runs(systemd):
    """For `WatchdogSec=`; and nothing else is asked for."""
    async with living(None):
        assert systemd.recv(100) == b"WATCHDOG=1"


def test_systemd_is_told_in_its_own_words(systemd):
    """One datagram for each."""
    notify("READY=1")
    notify("STOPPING=1")
    assert [systemd.recv(100), systemd.recv(100)] == [b"READY=1", b"STOPPING=1"]


def test_an_abstract_socket_is_one_with_an_at(monkeypatch):
    """As sd_notify(3) says."""
    name = f"amqpjobs-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(f"\0{name}")
        channel.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        notify("READY=1")
        assert channel.recv(100) == b"READY=1"


def test_without_systemd_nobody_is_told(caplog):
    """And nothing is logged."""
    notify("READY=1")
    assert caplog.records == []


def test_a_systemd_that_is_gone_is_told_in_the_log(monkeypatch, tmp_path, caplog):
    """And the worker goes on."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    notify("READY=1")
    assert "systemd could not be notified" in caplog.text


async def test_a_new_state_is_told_at_once(tmp_path, monkeypatch, caplog, systemd):
    """In the file, in the log, and to systemd; that it is over as well."""
    caplog.set_level("INFO")
    monkeypatch.setattr(liveness_module, "LOOK", 0.0)
    file, state = tmp_path / "heartbeat", "ok"
    liveness = Liveness(file, lambda: state)
    task = asyncio.create_task(liveness.run())
    async with asyncio.timeout(10):
        for told in ("ok", "blocked: low on memory", "ok", "stopping"):
            state = told
            while not file.exists() or state_of(file) != told:
                await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert [(r.message, getattr(r, "state", None)) for r in caplog.records] == [
        ("not healthy", "blocked: low on memory"),
        ("healthy again", None),
    ]
    said = b""
    with contextlib.suppress(BlockingIOError):
        while True:
            said += systemd.recv(100) + b" "
    assert b"STATUS=blocked: low on memory" in said


def test_a_file_without_a_state_is_that_of_a_worker_that_is_well(tmp_path):
    """Of an older release, or gone a moment ago."""
    file = tmp_path / "heartbeat"
    assert state_of(file) == "ok"
    file.write_text("4711\n")
    assert state_of(file) == "ok"


async def test_what_does_not_go_on_beside_the_work_is_healthy(tmp_path, caplog):
    """It is in the file, for people; probes do not mind, and the log has said it before."""
    file, states = tmp_path / "heartbeat", ["ok"]
    task = asyncio.create_task(Liveness(file, lambda: states[0]).run())
    try:
        await until(file.exists, "there is a sign")
        states[0] = condition(Up(), None, [], beside="housekeeping has to wait: outbox: away")
        await until(lambda: "housekeeping" in file.read_text(), "the file says it")
        assert state_of(file) == "ok, but housekeeping has to wait: outbox: away"
        assert Probe(file, None, True).run() == 0
        states[0] = "reconnecting"
        await until(lambda: "reconnecting" in file.read_text(), "the file says it")
        assert Probe(file, None, True).run() == 1
    finally:
        task.cancel()
        await asyncio.wait([task])
    assert [record.state for record in caplog.records] == ["reconnecting"]


class Up:
    """A connection that is there."""

    wire = object()
