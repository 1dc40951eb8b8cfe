"""``amqpjobs record``, ``status`` and ``migrate``, as a user runs them."""

import json
import signal
from pathlib import Path

import pytest

from amqpjobs.state.store.metadata import HEAD
from tests.support.brokers.broker_server import VirtualHost, poll
from tests.support.brokers.postgres import Postgres
from tests.support.programs import Ledger, command, consuming, environment, running


def status_of(job_id: str, env: dict[str, str]) -> tuple[int, dict]:
    done = command("status", job_id, "--json", env=env)
    return done.returncode, json.loads(done.stdout or "{}")


@pytest.mark.timeout(240)
def test_a_job_is_followed_to_its_end(broker: VirtualHost, tmp_path: Path) -> None:
    """Recorded by one program, run by another, asked for by a third."""
    env = environment(
        broker.url, tmp_path, AMQPJOBS_STORE_URL=f"sqlite:///{tmp_path}/s.db",
        AMQPJOBS_HEARTBEAT_FILE=str(tmp_path / "heartbeat"),
    )  # fmt: skip
    with running("record", env=env) as recorder:
        recorder.wait_for("consuming", queue="amqpjobs.recorder")
        assert poll(lambda: command("health", "--strict", env=env).returncode == 0, 20.0)
        with consuming("work", env=env):
            job_id = command("enqueue", "hold", "--args", "7", env=env).stdout.strip()
            Ledger(env).wait_for("started", [7])
            assert poll(lambda: status_of(job_id, env)[0] == 5, 20.0), status_of(job_id, env)
            assert status_of(job_id, env)[1]["state"] == "started"
            with running("status", job_id, "--follow", env=env) as follower:
                Ledger(env).go()
                assert follower.wait() == 0
            lines = follower._out.read_text().splitlines()
            assert "done attempt 1" in lines[-1]
            assert poll(lambda: status_of(job_id, env)[0] == 0, 20.0)
            failing = command("enqueue", "fail", "--args", '{"n": 3}', env=env).stdout.strip()
            done = command("status", failing, "--follow", env=env)
            assert done.returncode == 1
            assert "ValueError: job 3 cannot be done" in done.stdout
            assert poll(lambda: status_of(failing, env)[0] == 1, 20.0)
            shown = command("status", failing, env=env)
            assert shown.returncode == 1
            assert "state     failed" in shown.stdout
        recorder.signal(signal.SIGTERM)
        assert recorder.wait() == 0
    assert command("health", env=env).returncode == 1
    unknown = command("status", "nobody", env=env)
    assert unknown.returncode == 4
    assert "does a recorder run" in unknown.stderr


def test_a_status_without_a_store_makes_none(broker_43: VirtualHost, tmp_path: Path) -> None:
    """Asking is not recording."""
    env = environment(broker_43.url, tmp_path, AMQPJOBS_STORE_URL=f"sqlite:///{tmp_path}/s.db")
    assert command("status", "7", env=env).returncode == 4
    assert command("migrate", "--check", env=env).returncode == 1
    assert not (tmp_path / "s.db").exists()


@pytest.mark.timeout(180)
def test_a_store_is_migrated_by_a_command(tmp_path: Path, postgres: Postgres) -> None:
    """It says what it did; PostgreSQL is not used before."""
    env = environment("amqp://127.0.0.1:1/", tmp_path, AMQPJOBS_STORE_URL=postgres.new_database())
    assert command("status", "7", env=env).returncode == 2
    checked = command("migrate", "--check", "--json", env=env)
    assert checked.returncode == 1
    assert json.loads(checked.stdout) == {
        "before": None, "after": HEAD, "needed": True, "done": False,
    }  # fmt: skip
    done = command("migrate", env=env)
    assert (done.returncode, done.stdout) == (
        0,
        f"migrated the store from version none to {HEAD}\n",
    )
    assert command("migrate", "--check", env=env).returncode == 0
    assert command("status", "7", env=env).returncode == 4


def test_a_database_that_is_away_is_one_line(tmp_path: Path) -> None:
    """And the password is not in it."""
    url = "postgresql://u:hunter2@127.0.0.1:9/d"
    env = environment("amqp://127.0.0.1:1/", tmp_path, AMQPJOBS_STORE_URL=url)
    done = command("migrate", env=env)
    assert done.returncode == 1
    assert "is the database running" in done.stderr
    assert "hunter2" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_file_that_cannot_be_made_is_no_database_that_is_down(tmp_path: Path) -> None:
    """In a container whose file system is read only, most likely."""
    url = f"sqlite:///{tmp_path}/nowhere/status.db"
    env = environment("amqp://127.0.0.1:1/", tmp_path, AMQPJOBS_STORE_URL=url)
    done = command("record", env=env)
    assert done.returncode == 1
    assert "In a container it has to be a volume" in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
