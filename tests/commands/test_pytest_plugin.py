"""The plugin for pytest, in runs of their own: with each plugin for asynchronous tests."""

import os
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Found by itself where the package was installed since it has the plugin.
PLUGIN = (
    ()
    if entry_points(group="pytest11", name="amqpjobs")
    else ("-p", "amqpjobs.testing.pytest_plugin")
)

APP = """
import pytest
from amqpjobs import App
from amqpjobs.settings import Settings

app = App("shop", settings=Settings(url="amqp://production.invalid"))

@app.job(queue="mails")
async def send(name: str) -> str:
    return f"to {name}"
"""

ASYNCHRONOUS = (
    APP
    + """
MARK

async def test_a_worker_runs_jobs(amqpjobs_worker, amqpjobs_broker):
    worker = await amqpjobs_worker(app, ["mails"], concurrency=3)
    assert worker.ready and worker.concurrency == 3
    assert app.settings.url.get_secret_value() == amqpjobs_broker.url
    assert await send.request("Ada") == "to Ada"

async def test_each_test_has_a_broker_of_its_own(amqpjobs_worker, amqpjobs_broker):
    assert app.settings.url.get_secret_value() == "amqp://production.invalid"
    assert not amqpjobs_broker.call(lambda: "mails" in amqpjobs_broker.virtual_host.queues)
    await amqpjobs_worker(app)
    await amqpjobs_worker(app)
    assert await send.request("Bea") == "to Bea"

async def test_the_kit(amqpjobs_broker):
    async with app.testing() as t:
        await send.later("Ada")
        await t.run_until_idle()
        assert t.results(send) == ["to Ada"]
        assert t.url != amqpjobs_broker.url

async def test_a_wrong_queue_is_told(amqpjobs_worker):
    with pytest.raises(Exception, match="nowhere"):
        await amqpjobs_worker(app, ["nowhere"])
"""
)

SCOPE = ("-o", "asyncio_default_fixture_loop_scope=function")
ASYNCIO, ANYIO = "pytestmark = pytest.mark.asyncio", "pytestmark = pytest.mark.anyio"

BACKEND = """
@pytest.fixture
def anyio_backend():
    return "asyncio"
"""


def run(folder, test, *arguments):
    """A run of pytest; its exit status and output."""
    (folder / "test_it.py").write_text(test)
    (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AMQPJOBS", "PYTEST"))}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *PLUGIN, *arguments],
        cwd=folder, env=kept | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        timeout=50, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("mark", "arguments"),
    [
        ("", ("-p", "no:anyio", "--asyncio-mode=auto", *SCOPE)),
        (ASYNCIO, ("--asyncio-mode=strict", *SCOPE)),
        (ANYIO + BACKEND, ("-p", "no:asyncio")),
        (ANYIO + BACKEND, ("--asyncio-mode=strict", *SCOPE)),
    ],
    ids=["asyncio, auto", "asyncio, strict", "anyio", "anyio beside asyncio"],
)
def test_the_fixtures_work_with_every_plugin(tmp_path, mark, arguments):
    """Brokers are fresh, workers run, nothing is left; warnings are errors."""
    status, said = run(tmp_path, ASYNCHRONOUS.replace("MARK", mark), *arguments)
    assert status == 0, said
    assert "4 passed" in said


def test_a_synchronous_test_has_a_broker_too(tmp_path):
    """With a profile; no plugin for asynchronous tests is needed."""
    test = (
        APP
        + """
@pytest.mark.parametrize("amqpjobs_broker", ["3.10", "4.3"], indirect=True)
def test_it(amqpjobs_broker, request):
    assert request.node.callspec.params["amqpjobs_broker"] == amqpjobs_broker.profile.version
    app.configure(url=amqpjobs_broker.url)
    with app.blocking() as client:
        client.later(send.message("Ada"))
    assert amqpjobs_broker.call(lambda: amqpjobs_broker.virtual_host.queues["mails"].ready) == 1
"""
    )
    status, said = run(tmp_path, test, "-p", "no:asyncio", "-p", "no:anyio")
    assert status == 0, said
    assert "2 passed" in said


def test_nothing_is_used_without_being_asked_for(tmp_path):
    """No fixture of it is set up for a test that names none."""
    status, said = run(tmp_path, "def test_it(): pass\n", "--setup-show", *SCOPE)
    assert status == 0, said
    assert "amqpjobs" not in said.partition("test_it.py")[2]


def test_the_plugin_is_light():
    """It is imported in every run of pytest on the machine, whoever has installed amqpjobs."""
    heavy = ("pydantic", "pydantic_core", "aio_pika", "aiormq", "pamqp", "anyio", "typer", "rich")
    program = (
        "import sys, pytest; before = set(sys.modules); import amqpjobs.testing.pytest_plugin; "
        f"sys.exit(', '.join(m for m in {heavy} if m in set(sys.modules) - before) or "
        "', '.join(m for m in sys.modules if m.startswith(('amqpjobs.broker', 'amqpjobs.testing')) "
        "and m not in ('amqpjobs.testing', 'amqpjobs.testing.pytest_plugin')) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_pytest_finds_it_by_itself():
    """By an entry point."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    assert declared == {"pytest11": {"amqpjobs": "amqpjobs.testing.pytest_plugin"}}
