"""What is known of jobs, over HTTP; and what is said when there is nobody to ask."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from amqpjobs import App
from amqpjobs.errors import ConfigurationError
from amqpjobs.web.api import create_api
from tests.integration.web.conftest import shop_at
from tests.support.brokers.broker_server import VirtualHost
from tests.support.waiting import until
from tests.support.web import client_of, served
from tests.support.workers import working


def recorded(broker: VirtualHost, folder: Path, **settings: Any) -> App:
    return shop_at(broker.url, store_url=f"sqlite:///{folder}/status.db", **settings)


async def state_of(client: httpx.AsyncClient, job_id: str) -> str | None:
    answer = await client.get(f"/jobs/{job_id}")
    return str(answer.json()["state"]) if answer.status_code == 200 else None


async def reached(client: httpx.AsyncClient, job_id: str, state: str) -> dict[str, Any]:
    """Wait for a state, and return the whole status."""

    async def there() -> bool:
        return await state_of(client, job_id) == state

    await until(there, f"{job_id} is {state}")
    found: dict[str, Any] = (await client.get(f"/jobs/{job_id}")).json()
    return found


async def test_a_job_is_known_from_its_acceptance_to_its_result(
    broker: VirtualHost, tmp_path: Path
) -> None:
    """At the place that the 202 named; the recorder runs inside."""
    app = recorded(broker, tmp_path)
    async with served(app, recorder=True) as client:
        accepted = await client.post("/jobs/add", json={"a": 2, "b": 3})
        job_id = accepted.json()["id"]
        queued = await reached(client, job_id, "queued")
        assert (queued["job"], queued["queue"], queued["attempt"]) == ("add", "receipts", 0)
        async with working(app):
            done = await reached(client, job_id, "done")
    assert done["result"] == 5
    assert done["has_result"] is True
    assert done["ended_at"] >= done["started_at"] >= queued["queued_at"]
    assert done["worker"]


async def test_a_failure_is_known_with_its_error(broker_43: VirtualHost, tmp_path: Path) -> None:
    """As `amqpjobs status` shows it."""
    app = recorded(broker_43, tmp_path)
    async with served(app, recorder=True) as client, working(app):
        job_id = (await client.post("/jobs/fail", json="no paper")).json()["id"]
        dead = await reached(client, job_id, "failed")
    assert "no paper" in dead["error"]


async def test_a_job_is_cancelled(broker: VirtualHost, tmp_path: Path) -> None:
    """It waits in its queue until a worker drops it; the answer says who knows of it."""
    app = recorded(broker, tmp_path)
    async with served(app, recorder=True) as client:
        job_id = (await client.post("/jobs/add", json={"a": 2, "b": 3})).json()["id"]
        answer = await client.delete(f"/jobs/{job_id}?reason=ordered twice")
        assert answer.status_code == 202
        assert answer.json() == {
            "id": job_id, "cancelled": [], "running": [], "workers": [], "stored": True
        }  # fmt: skip
        async with working(app):
            cancelled = await reached(client, job_id, "cancelled")
        assert cancelled["reason"] == "ordered twice"


@pytest.mark.parametrize("job_id", ["%00", "%C3%A9" * 200, "x" * 256])
async def test_what_no_id_can_be_is_not_cancelled(client: httpx.AsyncClient, job_id: str) -> None:
    """A mistake of the caller, which another try does not help."""
    answer = await client.delete(f"/jobs/{job_id}")
    assert (answer.status_code, answer.json()["reason"]) == (422, "invalid-request")


async def test_the_newest_jobs_are_listed(broker_43: VirtualHost, tmp_path: Path) -> None:
    """By state, queue and job; in pages; without results, which may be large."""
    app = recorded(broker_43, tmp_path)
    async with served(app, recorder=True) as client:
        async with working(app, "receipts"):
            ids = [(await client.post("/jobs/add", json={"a": n})).json()["id"] for n in range(5)]
            for job_id in ids:
                await reached(client, job_id, "done")
        waiting = (await client.post("/jobs/urgent", json=1)).json()["id"]
        await reached(client, waiting, "queued")

        async def listed(query: str) -> list[dict[str, Any]]:
            answer = await client.get(f"/jobs?{query}")
            assert answer.status_code == 200, answer.text
            rows: list[dict[str, Any]] = answer.json()
            return rows

        assert (await listed("limit=1"))[0]["id"] == waiting
        assert {row["id"] for row in await listed("state=done")} == set(ids)
        assert {row["id"] for row in await listed("state=done&state=queued")} == {
            *ids, waiting
        }  # fmt: skip
        assert [row["id"] for row in await listed("queue=lanes")] == [waiting]
        assert len(await listed("job=add&limit=2")) == 2
        assert await listed("state=failed") == []
        pages, before = [], ""
        while rows := await listed(f"limit=2{before}"):
            pages += [row["id"] for row in rows]
            before = f"&before={rows[-1]['sequence']}"
        assert sorted(pages) == sorted([*ids, waiting])
        assert all(row["result"] is None for row in await listed("state=done"))
        assert all(row["has_result"] for row in await listed("state=done"))


@pytest.mark.parametrize(
    "query", ["state=finished", "limit=0", "limit=1001", "limit=x", "before=-1", "before=1e99"]
)
async def test_a_list_that_cannot_be_is_refused(client: httpx.AsyncClient, query: str) -> None:
    """422 says what can."""
    answer = await client.get(f"/jobs?{query}")
    assert answer.status_code == 422
    assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("job_id", ["01a201cd-e464-7600-9ede-5bcb525d5493", "x", "%00", "ä" * 9])
async def test_what_nobody_has_told_of_is_unknown(client: httpx.AsyncClient, job_id: str) -> None:
    """404, also for what no id can be; and where nothing was recorded yet, there is no database."""
    answer = await client.get(f"/jobs/{job_id}")
    assert answer.status_code == 404
    assert answer.json()["reason"] == "unknown-id"
    assert not Path("/nowhere").exists()
    assert (await client.get("/jobs")).json() == []


async def test_a_store_that_is_away_is_unavailable(
    broker_43: VirtualHost, unused_tcp_port: int
) -> None:
    """503 without its address; and no readiness. Jobs are accepted all the same."""
    store = f"postgresql://somebody:hunter2@127.0.0.1:{unused_tcp_port}/jobs"
    async with served(shop_at(broker_43.url, store_url=store), recorder=True) as client:
        one = await client.get("/jobs/7")
        newest = await client.get("/jobs")
        events = await client.get("/jobs/7/events")
        ready = await client.get("/readyz")
        accepted = await client.post("/jobs/add", json={"a": 1})
    assert [each.status_code for each in (one, newest, events, ready)] == [503] * 4
    assert one.json()["reason"] == "store-away"
    assert ready.json()["reasons"] == ["the store of statuses cannot be reached"]
    for each in (one, newest, events, ready):
        assert "127.0.0.1" not in each.text
        assert "somebody" not in each.text
    assert accepted.status_code == 202


async def test_a_store_that_is_needed_and_away_is_named(
    broker_43: VirtualHost, unused_tcp_port: int
) -> None:
    """As what the app needs, without what needs it: everybody may ask."""
    store = f"postgresql://somebody:hunter2@127.0.0.1:{unused_tcp_port}/jobs"
    shop = shop_at(broker_43.url, store_url=store)
    shop.outbox()
    async with served(shop) as client:
        ready = await client.get("/readyz")
        assert (await client.get("/healthz")).status_code == 200
    assert ready.status_code == 503
    assert ready.json()["reasons"] == ["the store, which this app needs, cannot be reached"]


async def test_a_store_that_cannot_be_does_not_start(broker_43: VirtualHost) -> None:
    """With a recorder, which needs it."""
    api = create_api(shop_at(broker_43.url, store_url="mysql://somewhere/jobs"))
    with pytest.raises(ConfigurationError, match="AMQPJOBS_STORE_URL"):
        async with client_of(api):
            pass


async def test_the_recorder_waits_for_its_broker(unused_tcp_port: int, tmp_path: Path) -> None:
    """A broker that is away costs nothing but time; nothing is left behind."""
    url = f"amqp://127.0.0.1:{unused_tcp_port}/"
    app = shop_at(url, store_url=f"sqlite:///{tmp_path}/status.db", connect_timeout=1)
    before = asyncio.all_tasks()
    async with served(app, recorder=True) as client:
        ready = await client.get("/readyz")
        assert ready.json()["reasons"] == ["RabbitMQ is away"]
    await until(lambda: asyncio.all_tasks() == before, "no task is left")
