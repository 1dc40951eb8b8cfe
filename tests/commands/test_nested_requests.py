"""A worker whose only slot waits for a request to its own queue, as its log and its error say."""

from pathlib import Path

from amqpjobs import App, Retry
from tests.support.brokers.broker_server import VirtualHost
from tests.support.programs import consuming, environment

app = App("nested", retry=Retry(attempts=1))


@app.job(queue="work")
async def inner() -> int:
    return 1


@app.job(queue="work")
async def outer() -> int:
    return await app.request(inner.message(), timeout=1)


async def test_the_log_and_the_error_name_it(broker: VirtualHost, tmp_path: Path) -> None:
    """With `-c 2` the second slot answers, and there is nothing to say."""
    env = environment(broker.url, tmp_path, AMQPJOBS_APP=f"{__name__}:app")
    app.configure(url=broker.url)
    async with app.lifespan():
        await outer.later()
        with consuming("work", "-c", "1", env=env) as worker:
            worker.wait_for("job failed", job=outer.name)
        [warned] = worker.logged("every slot waits for a request")
        assert (warned["level"], warned["job"]) == ("warning", outer.name)
        assert (warned["requested"], warned["request_queue"]) == (inner.name, "work")
        assert "--concurrency" in warned["fix"]
        [failed] = worker.logged("job failed")
        assert "every slot of this worker (concurrency 1) waited" in str(failed)
        await outer.later()
        with consuming("work", "-c", "2", env=env) as worker:
            worker.wait_for("job done", job=outer.name)
        assert worker.logged("every slot waits for a request") == []
