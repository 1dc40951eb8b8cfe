"""Durable jobs, over HTTP."""

from functools import partial
from pathlib import Path

from amqpjobs import App, Context, Reject
from tests.support.brokers.broker_server import VirtualHost
from tests.support.waiting import until
from tests.support.web import served
from tests.support.workers import app_at, working


def shop(broker: VirtualHost, folder: Path) -> App:
    """An app whose job waits for a signal."""
    app = app_at(broker.url, store_url=f"sqlite:///{folder}/s.db")

    @app.job(queue="orders", durable=True, keep_result=True)
    async def approved(ctx: Context, order: int) -> str:
        answer = await ctx.signal("approval", dict[str, str])
        return f"{order} by {answer['by']}"

    return app


async def test_a_signal_is_posted(broker_43: VirtualHost, tmp_path: Path) -> None:
    """Once; the second one is a conflict."""
    app = shop(broker_43, tmp_path)
    async with served(app, recorder=True) as client, working(app):
        job_id = (await client.post("/jobs/approved", json=7)).json()["id"]
        place = f"/jobs/{job_id}/signals/approval"
        posted = await client.post(place, json={"by": "ada"})
        assert (posted.status_code, posted.json()) == (202, {"id": job_id, "signal": "approval"})

        async def done() -> bool:
            return (await client.get(f"/jobs/{job_id}")).json().get("result") == "7 by ada"

        await until(done, "it is done")
        again = await client.post(place, json={"by": "bob"})
        assert (again.status_code, again.json()["reason"]) == (409, "not-taken")
        wrong = {"content-type": "application/json"}
        assert (await client.post(place, content="{", headers=wrong)).status_code == 422


async def test_a_job_is_cancelled_and_undone(broker_43: VirtualHost, tmp_path: Path) -> None:
    """One that waits is to be cancelled first; an unknown one is not found."""
    app = shop(broker_43, tmp_path)
    async with served(app, recorder=True) as client, working(app):
        job_id = (await client.post("/jobs/approved", json=7)).json()["id"]

        async def suspended() -> bool:
            answer = await client.post(f"/jobs/{job_id}/undo")
            return answer.status_code == 409 and "suspended" in answer.json()["detail"]

        await until(suspended, "it waits")
        found = (await client.get(f"/jobs/{job_id}/steps")).json()
        assert (found["state"], found["steps"][0]["name"]) == ("suspended", "approval")
        assert (await client.delete(f"/jobs/{job_id}?undo=true")).status_code == 202

        async def cancelled() -> bool:
            return bool((await client.get(f"/jobs/{job_id}")).json()["state"] == "cancelled")

        await until(cancelled, "it is cancelled")
        assert (await client.post("/jobs/an-id/undo")).json()["reason"] == "unknown-id"
        assert (await client.get("/jobs/an-id/steps")).status_code == 404


async def test_a_dead_letter_is_replayed_from_a_step(
    broker_43: VirtualHost, tmp_path: Path
) -> None:
    """By the whole id of its job."""
    app, done = shop(broker_43, tmp_path), list[str]()

    async def note(name: str) -> None:
        done.append(name)

    @app.job(queue="orders", durable=True)
    async def fails(ctx: Context) -> None:
        await ctx.step("one", note, "one")
        await ctx.step("two", note, "two")
        raise Reject("broken")

    async with served(app, recorder=True) as client, working(app):
        job_id = (await client.post("/jobs/fails", json={})).json()["id"]

        async def replayed(query: str) -> bool:
            return (await client.post(f"/jobs/{job_id}/replay{query}")).status_code == 202

        await until(partial(replayed, "?from=two"), "it is replayed")
        await until(lambda: done == ["one", "two", "two"], "a step is done again")
        await until(partial(replayed, ""), "it is replayed")
        await until(partial(replayed, "?restart=true"), "it is replayed")
        await until(lambda: done == ["one", "two", "two", "one", "two"], "all is done again")
        assert (await client.post(f"/jobs/{job_id[:8]}/replay")).status_code == 404


async def test_why_a_job_does_not_run(broker_43: VirtualHost, tmp_path: Path) -> None:
    """Also one that is unknown."""
    app = shop(broker_43, tmp_path)
    async with served(app, recorder=True) as client, working(app):
        job_id = (await client.post("/jobs/approved", json=7)).json()["id"]

        async def suspended() -> bool:
            return (await client.get(f"/jobs/{job_id}/why")).json()["reason"] == "suspended"

        await until(suspended, "it waits")
        found = (await client.get(f"/jobs/{job_id}/why")).json()
        assert found["sentence"].startswith("it waits for the signal 'approval'")
        assert (await client.get("/jobs/an-id/why")).json()["reason"] == "unknown"
