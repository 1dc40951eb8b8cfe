"""``amqpjobs schedules``, as a user runs it."""

import json
from pathlib import Path
from typing import Any

from tests.support.brokers.broker_server import VirtualHost
from tests.support.programs import command, environment

APP = "tests.support.scheduled_jobs:app"
NOWHERE = "amqp://127.0.0.1:1/"


def shown(env: dict[str, str], *arguments: str) -> Any:
    """What a command prints as JSON."""
    done = command("schedules", *arguments, "--json", env=env)
    assert done.returncode == 0, done
    return json.loads(done.stdout)


def test_schedules_are_operated(broker_43: VirtualHost, tmp_path: Path) -> None:
    """Before any worker has run, and with one that runs what was sent."""
    store = f"sqlite:///{tmp_path}/s.db"
    env = environment(broker_43.url, tmp_path, AMQPJOBS_APP=APP, AMQPJOBS_STORE_URL=store)
    assert [row["problem"] for row in shown(env, "list")] == ["no process has run with it yet"] * 2
    assert not (tmp_path / "s.db").exists()
    paused = command("schedules", "pause", "report", "--note", "why", "--for", "7d", env=env)
    assert "report: paused until " in paused.stderr, paused
    row = shown(env, "show", "report")
    assert (row["paused"], row["paused_note"], row["ticks"]) == (True, "why", [])
    listed = command("schedules", "list", env=env).stdout
    assert "every weekday at 07:00 Europe/Berlin" in listed
    assert ": why" in listed
    until = shown(env, "pause", "report", "--until", "2040-01-01T00:00")["paused_until"]
    assert until == "2040-01-01 00:00:00+01:00"
    assert shown(env, "resume", "report")["paused"] is False
    job_id = command("schedules", "run", "report", env=env).stdout.strip()
    assert len(job_id) == 36
    times = ("2026-11-02", "2026-11-07T00:00")
    sent = shown(env, "backfill", "report", *times)["job_ids"]
    assert len(sent) == 5
    assert shown(env, "backfill", "report", *times)["job_ids"] == []
    ran = command("consume", "--until-empty", env=env)
    done = [
        line for line in map(json.loads, ran.stdout.splitlines()) if line["event"] == "job done"
    ]
    assert {line["job_id"] for line in done} >= {job_id, *sent}
    ticks = shown(env, "show", "report", "--ticks", "3")["ticks"]
    assert [tick["how"] for tick in ticks] == ["backfill", "backfill", "run_now"]
    assert len(command("schedules", "next", "poll", "-n", "3", env=env).stdout.splitlines()) == 3


def test_what_cannot_be_done_says_why(tmp_path: Path) -> None:
    """On one line; usage is status 2."""
    store = f"sqlite:///{tmp_path}/s.db"
    env = environment(NOWHERE, tmp_path, AMQPJOBS_APP=APP, AMQPJOBS_STORE_URL=store)
    for arguments, words in {
        ("pause", "repor"): "did you mean 'report'?",
        ("remove", "report", "--yes"): "is in the code (schedule= of the job 'report'): remove it",
        ("remove", "report"): "not a terminal: pass --yes",
        ("next", "x"): "there is no schedule 'x'; there are: poll, report",
        ("backfill", "report", "noon", "2026-11-07"): "is not a time of ISO 8601",
        ("pause", "report", "--for", "1h", "--until", "2040-01-01"): "one at a time",
    }.items():
        done = command("schedules", *arguments, env=env)
        assert (done.returncode, words in done.stderr) == (2, True), done
        assert len(done.stderr.splitlines()) == 1, done


def test_without_a_store_the_code_is_shown(tmp_path: Path) -> None:
    """And what cannot be done then."""
    env = environment(NOWHERE, tmp_path, AMQPJOBS_APP=APP)
    listed = command("schedules", "list", env=env)
    assert "no store: usually once" in listed.stderr
    assert [row["name"] for row in shown(env, "list")] == ["poll", "report"]
    assert shown(env, "show", "poll")["when"] == "every day"
    done = command("schedules", "pause", "poll", env=env)
    assert done.returncode == 2
    assert "is kept in the store, and none is set: set AMQPJOBS_STORE_URL" in done.stderr


def test_a_job_is_stored_while_rabbitmq_is_away(tmp_path: Path) -> None:
    """And sent later."""
    store = f"sqlite:///{tmp_path}/s.db"
    env = environment(NOWHERE, tmp_path, AMQPJOBS_APP=APP, AMQPJOBS_STORE_URL=store)
    done = command("schedules", "run", "report", env=env)
    assert (done.returncode, len(done.stdout.strip())) == (0, 36), done
    assert "stored; it is sent when RabbitMQ is back" in done.stderr
