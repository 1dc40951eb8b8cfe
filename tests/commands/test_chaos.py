"""`amqpjobs chaos`: kills, freezes and restarts workers, and tells what became of the jobs."""

import json
import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from amqpjobs.cli.chaos.run import Findings
from amqpjobs.cli.chaos.workers import Effects, Victim
from tests.support.amqp import publish, ready, stranger
from tests.support.brokers.broker_server import VirtualHost, poll
from tests.support.programs import command, consuming, environment, running

CHAOS = ("chaos", "--queue", "work", "--workers", "2", "--concurrency", "4")


@pytest.fixture
def env(broker_43: VirtualHost, tmp_path: Path) -> dict[str, str]:
    """For what does not depend on the broker's version."""
    return environment(broker_43.url, tmp_path, TMPDIR=str(tmp_path))


async def put(url: str, env: dict[str, str], job: str, bodies: Iterable[bytes]) -> list[str]:
    """Have jobs wait in the queue; their ids."""
    assert command("topology", "apply", env=env).returncode == 0
    ids = []
    async with stranger(url) as channel:
        for number, body in enumerate(bodies):
            ids.append(f"{job}-{number}")
            await publish(channel, "work", body, type=job, message_id=ids[-1])
    return ids


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            if int(stat.rpartition(")")[2].split()[1]) == pid:
                found.append(int(entry.name))
    return found


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_run_keeps_its_promises(broker: VirtualHost, tmp_path: Path) -> None:
    """Every job comes to an end, duplicates are bounded, restarts stay within their budget."""
    # The default in place of the tests' short budget: the interpreter's end, which a worker does
    # not know of, may take longer than its margin where other tests have the processor.
    env = environment(broker.url, tmp_path, TMPDIR=str(tmp_path), AMQPJOBS_SHUTDOWN_TIMEOUT="8")
    run = command(
        *(*CHAOS, "--job", "spin", "--args", "1", "--count", "150"),
        *("--rounds", "4", "--seed", "3", "--json"),
        env=env,
        timeout=100,
    )
    assert run.returncode == 0, str(run)
    found = json.loads(run.stdout)
    assert found["kept"]
    assert (found["followed"], found["done"], found["lost"]) == (150, 150, [])
    assert found["kills"] + found["freezes"] + found["restarts"] == 4
    assert found["bound"] == 4 * (found["kills"] + 2 * found["freezes"] + found["cut_off"])
    assert found["crashed"] == 0
    assert len(found["exits"]) == found["restarts"] + 2
    assert "no more faults" in run.stderr
    assert not list(tmp_path.glob("amqpjobs-chaos-*"))  # its logs are kept for what was broken


async def test_what_waits_already_is_followed(
    broker_43: VirtualHost, env: dict[str, str], tmp_path: Path
) -> None:
    """Without --job; what has no id cannot be followed, and what fails is dead, not lost."""
    await put(broker_43.url, env, "spin", [b"1"] * 20)
    await put(broker_43.url, env, "fail", [b'{"n": 1}'] * 5)
    run = command(*CHAOS, "--rounds", "1", env=env)
    assert run.returncode == 0, str(run)
    assert "25 jobs: 20 done, 5 dead" in run.stderr
    assert "lost" in run.stdout


async def test_jobs_that_are_lost_are_told(
    broker_43: VirtualHost, env: dict[str, str], tmp_path: Path
) -> None:
    """Somebody purges the queue meanwhile: exit status 1, and the ids."""
    ids = await put(broker_43.url, env, "hold", [b"%d" % n for n in range(30)])
    arguments = (*CHAOS, "--rounds", "1", "--concurrency", "1", "--patience", "8", "--json")
    name = quote(broker_43.name, safe="")
    with running(*arguments, env=env) as run:
        ledger = Path(env["JOBS_LEDGER"])
        assert poll(lambda: ledger.exists() and ledger.read_text(), 30)
        broker_43.server.api("DELETE", f"/queues/{name}/work/contents")
        Path(f"{ledger}.go").touch()
        # Those that are gone never end; it does not wait for them for ever when it is told to.
        assert run.wait(200) == 1
    found = json.loads(str(run).rpartition("\n}")[0] + "\n}")
    assert 20 <= len(found["lost"]) < 30
    assert set(found["lost"]) <= set(ids)
    assert not found["kept"]
    assert "a promise was broken" in run.errors


async def test_jobs_that_do_not_end_in_time_are_not_called_lost(
    broker_43: VirtualHost, env: dict[str, str]
) -> None:
    """They are in the queue, and nothing is proven: exit status 1."""
    await put(broker_43.url, env, "hold", [b"1", b"2"])
    run = command(*CHAOS, "--rounds", "1", "--patience", "2", "--json", env=env)
    assert run.returncode == 1, str(run)
    found = json.loads(run.stdout)
    assert (found["lost"], found["unfinished"]) == ([], 2)
    async with stranger(broker_43.url) as channel:
        await ready(channel, "work", 2)


def test_ctrl_c_ends_its_workers(env: dict[str, str]) -> None:
    """At once, frozen ones too; what they had is in the queue again."""
    arguments = (*CHAOS, "--job", "spin", "--args", "3", "--seconds", "60")
    with running(*arguments, env=env) as run:
        assert poll(lambda: any(f" {f} " in run.errors for f in ("-9", "freeze", "restart")), 30)
        # One that was killed has its successor a moment later.
        assert poll(lambda: len(children(run.pid)) >= 2, 10)
        workers = children(run.pid)
        run.signal(signal.SIGINT)
        assert run.wait(20) == 130
        assert not any(alive(pid) for pid in workers)
    assert "interrupted" in run.errors


def refusal(run: Any, *parts: str) -> None:
    assert run.returncode == 2, str(run)
    assert len(run.stderr.splitlines()) == 1, run.stderr
    for part in parts:
        assert part in run.stderr


def test_a_broker_elsewhere_is_refused(tmp_path: Path) -> None:
    """Unless --yes-really: then it is tried, and cannot be reached here."""
    env = environment("amqp://u:p@192.0.2.1/", tmp_path, AMQPJOBS_CONNECT_TIMEOUT="0.5")
    arguments = (*CHAOS, "--job", "spin", "--args", "1")
    refusal(command(*arguments, env=env), "--yes-really", "amqp://u@192.0.2.1/")
    assert command(*arguments, "--yes-really", env=env).returncode == 3


def test_a_queue_with_consumers_is_refused(env: dict[str, str]) -> None:
    """Their jobs could not be told from those here."""
    with consuming("work", env=env):
        refusal(command(*CHAOS, "--job", "spin", "--args", "1", env=env), "1 consumers already")


def test_what_cannot_be_done_is_said(env: dict[str, str]) -> None:
    """Nothing waits; a job of another queue."""
    refusal(command(*CHAOS, env=env), "nothing waits in 'work'", "--job")
    refusal(command(*CHAOS, "--job", "urgent", "--args", "1", env=env), "--queue lanes")


@pytest.mark.parametrize(
    "broken",
    [
        {"lost": ["a"]},
        {"unfinished": 1},
        {"duplicates": 5, "bound": 4},
        {"exits": [0.1, 8.1], "budget": 8.0},
        {"failed_exits": 1},
    ],
)
def test_each_promise_can_be_broken(broken: dict[str, Any]) -> None:
    """One row says NO, the others yes."""
    findings = Findings(1, **broken)
    assert [row["kept"] for row in findings.promises()].count("NO") == 1
    assert not findings.kept
    assert Findings(1).kept


def test_a_lost_connection_explains_a_duplicate_once(tmp_path: Path) -> None:
    """One that a freeze has cost is the freeze's; so is none of another purpose."""
    lost = {"event": "connection lost, reconnecting", "purpose": "consume"}
    lines = [lost, lost, lost | {"purpose": "publish"}]
    script = "import sys; print(sys.argv[1])"
    text = "\n".join(map(json.dumps, lines))
    victim = Victim(
        "one", [sys.executable, "-c", script, text], os.environ, tmp_path, lambda _: None
    )
    assert poll(lambda: victim.status == 0, 20)
    victim.follow()
    assert victim.cut_off == 2
    victim.freezes = 1
    assert victim.cut_off == 1
    victim.freezes = 3
    assert victim.cut_off == 0


def test_a_job_ends_when_it_will_not_run_again() -> None:
    """A retry is no end; reasons for the dead letters are one end by many names."""
    effects = Effects()
    for outcome in ("retried", "released", "superseded", "snoozed", "done", "done"):
        effects.note({"job_id": "a", "outcome": outcome})
    for outcome in ("failed", "rejected", "undecodable"):
        effects.note({"job_id": outcome, "outcome": outcome})
    effects.note({"event": "worker is ready"})
    assert effects.ends.pop("a") == {"done": 2}
    assert set(effects.ends) == {"failed", "rejected", "undecodable"}
    assert all(counter == {"dead": 1} for counter in effects.ends.values())


def test_a_worker_is_frozen_behind_a_proxy(env: dict[str, str]) -> None:
    """It goes on working when it is back. Seed 1 freezes; the first worker is behind the proxy."""
    run = command(
        *("chaos", "--queue", "work", "--workers", "1", "--concurrency", "4"),
        *("--job", "spin", "--args", "1", "--count", "80", "--patience", "60"),
        *("--rounds", "1", "--seed", "1", "--json"),
        env=env,
        timeout=150,
    )
    assert run.returncode == 0, str(run)
    found = json.loads(run.stdout)
    assert (found["freezes"], found["proxied"]) == (1, 1)
    assert (found["done"], found["unfinished"], found["stalled"]) == (80, 0, 0)


def test_a_worker_that_says_that_it_starts_nothing_breaks_a_promise() -> None:
    """Whether or not its jobs come to an end later."""
    found = Findings(1, budget=8.0, stalled=1)
    assert not found.kept
    broken = [row["promise"] for row in found.promises() if row["kept"] == "NO"]
    assert broken == ["workers that started no jobs"]
