"""``amqpjobs outbox``, and what other commands tell of it, as an operator runs them."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, insert, update

from amqpjobs.broker.embedded import Broker
from amqpjobs.settings import load_settings
from amqpjobs.state.memory import memory_of
from tests.support.outbox_jobs import app, send
from tests.support.programs import command, environment


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[dict[str, str]]:
    async with Broker("4.3") as broker:
        yield environment(
            broker.url,
            tmp_path,
            AMQPJOBS_APP="tests.support.outbox_jobs:app",
            AMQPJOBS_STORE_URL=f"sqlite:///{tmp_path}/s.db",
        )


async def run(env: dict[str, str], *arguments: str) -> Any:
    return await asyncio.to_thread(command, *arguments, env=env)


async def store(env: dict[str, str], n: int, *, failed: str | None = None) -> str:
    """A message in the outbox, which no process of this test sends; its job's id."""
    from amqpjobs.state.outbox.rows import values_of

    settings = load_settings(url=env["AMQPJOBS_URL"], store_url=env["AMQPJOBS_STORE_URL"])
    with app.placed(settings=settings):
        memory = memory_of(app.client)
        handle, prepared = await app.client.preparing.prepare(send.message(n))
        assert prepared is not None
        place, table = await memory.place(), memory.outbox.table

        def write(connection: Connection) -> None:
            values = values_of("outboxes", prepared, place.now)
            row = connection.execute(insert(table).values(values)).inserted_primary_key
            if failed is not None:
                changed = update(table).where(table.c.id == row[0])
                connection.execute(changed.values(failed_at=place.now, error=failed))

        await place.run(write)
        await memory.close()
    return handle.id


async def test_what_failed_is_shown_tried_again_and_sent(env: dict[str, str]) -> None:
    """The queue was missing; now it is there."""
    assert (await run(env, "outbox", "list", "--json")).stdout.strip() == "[]"
    assert not Path(env["AMQPJOBS_STORE_URL"].removeprefix("sqlite:///")).exists()
    waits, failed = await store(env, 1), await store(env, 2, failed="no queue 'work'")

    rows = json.loads((await run(env, "outbox", "list", "--json")).stdout)
    assert [(row["state"], row["id"], row["error"]) for row in rows] == [
        ("failed", failed, "no queue 'work'"), ("waiting", waits, None),
    ]  # fmt: skip
    assert {(row["job"], row["queue"]) for row in rows} == {("send", "work")}
    assert "no queue 'work'" in (await run(env, "outbox", "list")).stdout
    shown = json.loads((await run(env, "queues", "--json")).stdout)
    assert shown[-1]["outbox"] | {"oldest_s": 0} == {"open": 1, "oldest_s": 0, "failed": 1}
    told = (await run(env, "queues")).stderr
    assert "outbox: 1 not sent yet, the oldest for" in told
    assert "1 refused by RabbitMQ (`amqpjobs outbox list`)" in told
    doctor = await run(env, "doctor", "--json")
    assert doctor.returncode == 1
    assert next(row for row in json.loads(doctor.stdout) if row["check"] == "outbox")["fix"]

    unsaid = await run(env, "outbox", "retry")
    assert (unsaid.returncode, "or --all" in unsaid.stderr) == (2, True)
    assert json.loads((await run(env, "outbox", "retry", failed[:20], "--json")).stdout) == {
        "retried": 1
    }
    again = json.loads((await run(env, "outbox", "list", "--json")).stdout)
    assert [row["state"] for row in again] == ["waiting", "waiting"]
    await run(env, "topology", "apply")
    consumed = await run(env, "consume", "work", "--until-empty")
    assert consumed.returncode == 0, str(consumed)


async def test_what_failed_is_discarded_and_comes_back(env: dict[str, str], tmp_path: Path) -> None:
    """Only that, after a confirmation, and into a file first."""
    waits = await store(env, 1)
    failed = [await store(env, n, failed="no") for n in (2, 3)]
    assert "pass --yes" in (await run(env, "outbox", "discard", "--all")).stderr
    file = tmp_path / "outbox.jsonl"
    done = await run(env, "outbox", "discard", "--all", "--yes", "--export", str(file))
    assert "2 messages discarded" in done.stderr
    rows = json.loads((await run(env, "outbox", "list", "--json")).stdout)
    assert [row["id"] for row in rows] == [waits]
    assert [json.loads(line)["id"] for line in file.read_text().splitlines()] == failed
    await run(env, "topology", "apply")
    back = await run(env, "dead", "import", str(file), "--to", "work")
    assert back.returncode == 0, str(back)
    shown = json.loads((await run(env, "queues", "--json")).stdout)
    assert next(row for row in shown if row["queue"] == "work")["ready"] == 2
