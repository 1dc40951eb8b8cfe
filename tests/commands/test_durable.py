"""The commands that operate durable jobs, run as an operator runs them."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from amqpjobs.broker.embedded import Broker
from tests.support.programs import command, environment, running

APP = "tests.support.durable_jobs:app"


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[dict[str, str]]:
    """With a broker, and a store."""
    async with Broker("4.3") as broker:
        store = f"sqlite:///{tmp_path}/s.db"
        yield environment(broker.url, tmp_path, AMQPJOBS_APP=APP, AMQPJOBS_STORE_URL=store)


async def run(env: dict[str, str], *arguments: str) -> Any:
    """A command, while the broker goes on."""
    return await asyncio.to_thread(command, *arguments, env=env)


async def enqueued(env: dict[str, str], job: str, args: str) -> str:
    """The id of a job that was enqueued."""
    done = await run(env, "enqueue", job, "--args", args)
    assert done.returncode == 0, done
    return str(done.stdout.strip())


async def test_a_signal_is_sent(env: dict[str, str]) -> None:
    """To a job that waits for it: a worker goes on with it."""
    with running("consume", env=env) as worker:
        await asyncio.to_thread(worker.wait_for, "worker is ready")
        job_id = await enqueued(env, "approved", "7")
        await asyncio.to_thread(worker.wait_for, "job suspended", job="approved")
        sent = await run(env, "signal", job_id, "approval", '{"by": "ada"}', "--json")
        assert json.loads(sent.stdout) == {"id": job_id, "signal": "approval", "taken": True}
        await asyncio.to_thread(worker.wait_for, "job done", job="approved")
        late = await run(env, "signal", job_id, "approval", '{"by": "ada"}')
        assert (late.returncode, "has had a signal" in late.stderr) == (1, True)
        wrong = await run(env, "signal", job_id, "approval", "{by")
        assert (wrong.returncode, "not JSON" in wrong.stderr) == (2, True)


async def test_a_job_is_cancelled_and_undone(env: dict[str, str]) -> None:
    """At once, or later; what could not be undone is found by the doctor, and tried again."""
    with running("consume", env=env) as worker:
        await asyncio.to_thread(worker.wait_for, "worker is ready")
        job_id = await enqueued(env, "approved", "7")
        await asyncio.to_thread(worker.wait_for, "job suspended", job_id=job_id, times=2)
        waits = await run(env, "undo", job_id)
        assert (waits.returncode, "cancel --undo" in waits.stderr) == (1, True)
        cancelled = await run(env, "cancel", job_id, "--undo")
        assert cancelled.returncode == 0, cancelled
        await asyncio.to_thread(worker.wait_for, "job done", job="refund")
        broken = await enqueued(env, "approved", "13")
        await asyncio.to_thread(worker.wait_for, "job suspended", job_id=broken, times=2)
        assert (await run(env, "cancel", broken)).returncode == 0
        await asyncio.to_thread(worker.wait_for, "job cancelled", job_id=broken)
        undone = await run(env, "undo", broken, "--json")
        assert json.loads(undone.stdout) == {"id": broken, "state": "undoing"}
        await asyncio.to_thread(worker.wait_for, "undo of a durable job failed", job_id=broken)
        doctor = json.loads((await run(env, "doctor", "--json")).stdout)
        assert any(f"1 could not be undone: {broken}" in check["finding"] for check in doctor)
        assert (await run(env, "undo", broken)).returncode == 0
        failed = "undo of a durable job failed"
        await asyncio.to_thread(worker.wait_for, failed, job_id=broken, times=2)
        assert (await run(env, "undo", "an-id")).returncode == 1


async def test_a_dead_letter_is_replayed_from_a_step(env: dict[str, str]) -> None:
    """Only of a durable job."""
    with running("consume", env=env) as worker:
        await asyncio.to_thread(worker.wait_for, "worker is ready")
        job_id = await enqueued(env, "approved", "7")
        assert (await run(env, "signal", job_id, "approval", '{"by": "nobody"}')).returncode == 0
        await asyncio.to_thread(worker.wait_for, "job done", job="refund")
        plain = await enqueued(env, "plain", "{}")
        await asyncio.to_thread(worker.wait_for, "job rejected", job_id=plain)
        no = await run(env, "dead", "replay", "--all", "--from", "charge")
        assert (no.returncode, "'plain' is not a durable job" in no.stderr) == (2, True), no
        replayed = await run(env, "dead", "replay", job_id, "--from", "approval", "--json")
        assert json.loads(replayed.stdout)["done"] == 1, replayed
        await asyncio.to_thread(worker.wait_for, "job done", job="charge", times=2)


async def test_a_job_is_shown(env: dict[str, str]) -> None:
    """A durable one with its steps; others as their status is; unknown ones are status 4."""
    with running("consume", env=env) as worker:
        await asyncio.to_thread(worker.wait_for, "worker is ready")
        job_id = await enqueued(env, "approved", "7")
        await asyncio.to_thread(worker.wait_for, "job suspended", job_id=job_id, times=2)
        shown = await run(env, "show", job_id)
        assert shown.returncode == 0, shown
        assert "waits for the signal 'approval'" in shown.stdout
        assert "refund" in shown.stdout
        found = json.loads((await run(env, "show", job_id, "--json")).stdout)
        assert (found["state"], found["waiting"]) == ("suspended", ["approval"])
        assert [step["name"] for step in found["steps"]] == ["charge", "approval"]
        chart = (await run(env, "show", job_id, "--mermaid")).stdout
        assert chart.startswith("gantt\n")
        assert "approval :active," in chart
        unknown = await run(env, "show", "an-id")
        assert (unknown.returncode, "nothing is known" in unknown.stderr) == (4, True)


async def test_why_a_job_does_not_run(env: dict[str, str]) -> None:
    """In a sentence, or in JSON; and what could not be seen."""
    alone = await enqueued(env, "approved", "7")
    unknown = await run(env, "why", alone)
    assert (unknown.returncode, "not seen: its status: none is" in unknown.stderr) == (4, True)
    with running("consume", env=env) as worker:
        await asyncio.to_thread(worker.wait_for, "job suspended", job_id=alone, times=2)
        said = await run(env, "why", alone)
        assert said.returncode == 0, said
        assert said.stdout.startswith("It waits for the signal 'approval'.\n  durable")
        found = json.loads((await run(env, "why", alone, "--json")).stdout)
        assert (found["reason"], found["facts"][-1]["source"]) == ("suspended", "durable")
        await run(env, "pause", "orders", "--by", "ada")
        await run(env, "signal", alone, "approval", '{"by": "ada"}')
        paused = await run(env, "why", alone)
        assert "Its queue orders is paused by ada" in paused.stdout, paused
