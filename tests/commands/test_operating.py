"""The commands for operators, run as an operator runs them."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from amqpjobs.broker.embedded import Broker
from tests.support.programs import PROGRAM, command, environment, running


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[dict[str, str]]:
    async with Broker("4.3") as broker:
        yield environment(broker.url, tmp_path)


async def run(env: dict[str, str], *arguments: str) -> Any:
    return await asyncio.to_thread(command, *arguments, env=env)


async def test_an_operator_pauses_cancels_and_looks(env: dict[str, str]) -> None:
    """In JSON for programs. The pause is there for a worker that starts later."""
    alone = await run(env, "ping", "--json", "--within", "0.3")
    assert (alone.returncode, json.loads(alone.stdout)["workers"]) == (1, [])
    paused = await run(env, "pause", "work", "--by", "ada", "--json")
    assert json.loads(paused.stdout) | {"until": None} == {
        "queue": "work", "paused": True, "until": None, "rate": None, "workers": []
    }  # fmt: skip
    with running("consume", "work", env=env) as worker:
        await asyncio.to_thread(worker.wait_for, "worker is ready")
        await asyncio.to_thread(worker.wait_for, "queue paused by an operator")
        told = await run(env, "cancel", "an-id", "--json")
        assert (told.returncode, len(json.loads(told.stdout)["workers"])) == (0, 1)
        assert "1 worker will not start it" in (await run(env, "cancel", "an-id")).stderr
        (seen,) = json.loads((await run(env, "workers", "--json")).stdout)
        assert seen["queues"]["work"] == "paused"
        shown = json.loads((await run(env, "queues", "--json")).stdout)
        row = next(row for row in shown if row["queue"] == "work")
        assert (row["state"], row["paused_by"]) == ("paused", "ada")
        doctor = json.loads((await run(env, "doctor", "--json")).stdout)
        assert any("paused by ada" in check["finding"] for check in doctor)
        resumed = await run(env, "resume", "work")
        assert "resumed; 1 worker follows" in resumed.stderr
        assert (await run(env, "ping")).returncode == 0


async def test_nothing_is_purged_unasked(env: dict[str, str], tmp_path: Path) -> None:
    """Without a terminal it wants --yes; a file that is there is left alone."""
    await run(env, "topology", "apply")
    unasked = await run(env, "purge", "work")
    assert unasked.returncode == 2
    assert "pass --yes to purge without confirmation" in unasked.stderr
    (tmp_path / "there").write_text("something")
    there = await run(env, "purge", "work", "--yes", "--export", str(tmp_path / "there"))
    assert there.returncode == 2
    assert (tmp_path / "there").read_text() == "something"
    purged = await run(env, "purge", "work", "--yes", "--json")
    assert json.loads(purged.stdout)["removed"] == 0
    await run(env, "enqueue", "quick", "--args", "1")
    assert "work: 1 job removed" in (await run(env, "purge", "work", "--yes")).stderr


async def test_purged_jobs_are_for_their_owner_alone(env: dict[str, str], tmp_path: Path) -> None:
    """As the files of `dead export`: their arguments may be secret."""
    await run(env, "topology", "apply")
    kept = tmp_path / "kept.jsonl"
    assert (await run(env, "purge", "work", "--yes", "--export", str(kept))).returncode == 0
    assert kept.stat().st_mode & 0o777 == 0o600


async def test_an_export_that_ends_early_is_to_be_kept(env: dict[str, str], tmp_path: Path) -> None:
    """It may hold what is in no queue any more: here the disk is full."""
    await run(env, "topology", "apply")
    for n in range(3):
        await run(env, "enqueue", "hold", "--args", str(n))
    kept = tmp_path / "kept.jsonl"
    small = ("sh", "-c", 'ulimit -f 1; exec "$0" "$@"', *PROGRAM)
    options = ("purge", "work", "--yes", "--export", str(kept))
    full = await asyncio.to_thread(command, *options, env=env, program=small)
    assert full.returncode == 1, str(full)
    assert f"keep it, and bring it back with `amqpjobs dead import {kept} --to work`" in full.stderr
    assert kept.stat().st_size
    left = json.loads((await run(env, "purge", "work", "--yes", "--json")).stdout)
    assert left["removed"] == 3


APP_OF_MISTAKES = """
from amqpjobs import App

def publish(call_next, message):
    raise LookupError("no tenant")

app = App("mistakes", publishing=[publish])

@app.job(queue="work")
async def odd(n: int) -> str:
    return object()
"""


async def test_mistakes_of_an_app_are_no_tracebacks_of_ours(
    env: dict[str, str], tmp_path: Path
) -> None:
    """A publishing middleware that raises, a result that is no JSON: one line, and status 1."""
    (tmp_path / "mistakes.py").write_text(APP_OF_MISTAKES)
    there = env | {"AMQPJOBS_APP": "mistakes:app"}
    there["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{there['PYTHONPATH']}"
    for arguments, words in (
        (("enqueue", "odd", "--args", "1"), "LookupError: no tenant (--debug shows where)"),
        (("run", "odd", "--args", "1"), "the result of 'odd' cannot become JSON"),
    ):
        failed = await run(there, *arguments)
        assert failed.returncode == 1, str(failed)
        assert words in failed.stderr
        assert "Traceback" not in failed.stderr


async def test_what_cannot_be_is_said(env: dict[str, str]) -> None:
    """With the fix, and status 2."""
    for arguments, words in (
        (("pause", "wrok"), "did you mean"),
        (("set-rate", "work", "fast"), "not 'fast'; none is the queue's own rate"),
        (("pause", "work", "--for", "soon"), "is no duration"),
        (("pause", "work", "--for", "9999999999d"), "is not from 1 s to 3106 d"),
        (("dead", "import", "nowhere", "--to", "work"), "'nowhere' cannot be read: No such file"),
    ):
        refused = await run(env, *arguments)
        assert refused.returncode == 2, str(refused)
        assert words in refused.stderr
