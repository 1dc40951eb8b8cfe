"""``amqpjobs limits``, as a user runs it."""

import asyncio
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import pytest
from typer.testing import CliRunner

from amqpjobs import App, Limit
from amqpjobs.cli.program import program_for
from amqpjobs.client.prepared import Prepared
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.message.properties import Properties
from amqpjobs.settings import load_settings
from amqpjobs.state.examination.limits import examine_limits
from amqpjobs.state.limits.keys import LIMIT, key_in
from amqpjobs.state.limits.places import Holder, Want
from amqpjobs.state.limits.turn import Starting, turn
from amqpjobs.state.memory import memory_of


def an_app(tmp_path: Path) -> App:
    settings = load_settings(url="amqp://nowhere.invalid", store_url=f"sqlite:///{tmp_path}/s.db")
    app = App("shop", settings=settings)

    @app.job(queue="sync")
    async def sync(customer: Annotated[int, Limit(1)]) -> None: ...

    return app


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> App:
    """One whose slot for customer 7 is held, and waited for; and a lock. Each command is a process
    of its own, and so has an app of its own."""
    app = an_app(tmp_path)
    module = ModuleType("limited_shop")
    module.app = app  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "limited_shop", module)
    monkeypatch.setenv("AMQPJOBS_APP", "limited_shop:app")
    monkeypatch.setenv("AMQPJOBS_STORE_URL", f"sqlite:///{tmp_path}/s.db")
    asyncio.run(prepare(app))
    return app


async def prepare(app: App) -> None:
    memory = memory_of(app.client)
    store = await memory.store()
    want = (Want(key_in("shop", LIMIT, "sync.customer=7")),)

    def starting(job_id: str) -> Starting:
        prepared = Prepared(job_id, "sync", "sync", Properties(message_id=job_id), b"7")
        return Starting(Holder(job_id, "sync", worker="host:1"), want, lambda: prepared)

    jobs = [starting("a"), starting("b")]
    await store.run(turn, "shop", store.now, (), jobs)
    await app.lock("invoice:7").__aenter__()
    await memory.close()


def amqpjobs(*arguments: str) -> tuple[int, str, Any]:
    done = CliRunner().invoke(program_for("limits"), ["limits", *arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    data = json.loads(done.stdout) if "--json" in arguments else None
    return done.exit_code, done.output, data


def test_list_and_show(app: App) -> None:
    """Who holds what since when, and how many wait."""
    status, text, _ = amqpjobs("list")
    assert status == 0
    assert "sync.customer=7" in text
    assert "lock:invoice:7" in text
    _, _, listed = amqpjobs("list", "--json")
    assert [(key["key"], len(key["slots"]), key["waiting"]) for key in listed] == [
        ("sync.customer=7", 1, 1),
        ("lock:invoice:7", 1, 0),
    ]
    status, text, _ = amqpjobs("show", "sync.customer=7")
    assert status == 0
    assert "host:1" in text
    assert "1 jobs wait for it" in text
    _, _, one = amqpjobs("show", "sync.customer=7", "--json")
    assert one["slots"][0]["job_id"] == "a"
    assert one["slots"][0]["token"] == 1
    assert amqpjobs("show", "sync.customer=8")[0] == 1


def test_release_asks_and_wakes(app: App) -> None:
    """Without a terminal it wants `--yes`."""
    with pytest.raises(ConfigurationError, match="--yes"):
        amqpjobs("release", "sync.customer=7")
    assert amqpjobs("release", "sync.customer=7", "--yes", "--json")[2] == {
        "key": "sync.customer=7", "released": 1,
    }  # fmt: skip
    _, _, one = amqpjobs("show", "sync.customer=7", "--json")
    assert one["slots"][0]["job_id"] == "b"  # kept for the one that waited
    assert one["waiting"] == 0
    assert amqpjobs("release", "lock:invoice:7", "--yes")[0] == 0
    assert amqpjobs("release", "lock:invoice:7", "--yes")[0] == 1


def test_nothing_is_held(tmp_path: Path, app: App) -> None:
    """Doctor says how many."""
    [found] = asyncio.run(examine_limits(memory_of(app.client)))
    assert (found.state, found.text) == ("ok", "2 slots held, 1 jobs waiting")
