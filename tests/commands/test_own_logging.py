"""Applications that configure logging themselves, under ``amqpjobs consume``: their set-up stays,
no line is lost or there twice, and the line of each job is whole."""

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from amqpjobs import App
from amqpjobs.broker.embedded import Broker
from tests.support.brokers.broker_server import poll
from tests.support.programs import ROOT, Program, environment, running
from tests.support.waiting import PATIENCE

JOBS = 30

SHOP = """
from amqpjobs import App, Context, Retry
from amqpjobs.worker import Worker  # its loggers are there when the application configures logging

CONFIGURATION

import logging
log = logging.getLogger("shop.jobs")
app = App("shop", retry=Retry(attempts=1))

@app.job(queue="work")
async def send(ctx: Context, n: int) -> None:
    log.warning("sending %d", n)

@app.job(queue="work")
async def fail(n: int) -> None:
    raise ValueError(f"no address {n}")

@app.job(queue="slow", cpu=True)
def count(n: int) -> None:
    log.warning("counting %d", n)

HOOK
"""


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    with Broker.in_thread() as broker:
        yield broker


async def enqueue(url: str, job: str, numbers: range) -> None:
    """By an app of the test's own, with the same names."""
    app = App("shop")
    app.configure(url=url)

    @app.job(queue="slow" if job == "count" else "work", name=job)
    async def named(n: int) -> None: ...

    async with app.lifespan():
        await app.later_many(named.message(n) for n in numbers)


class Shop:
    """The application, in a folder, and a worker of it."""

    def __init__(self, folder: Path, broker: Broker) -> None:
        self.folder, self.url = folder, broker.url

    def work(
        self,
        configuration: str,
        job: str = "send",
        count: int = JOBS,
        hook: str = "",
        **variables: str,
    ) -> tuple[str, str]:
        """What a worker writes to stdout and stderr that runs so many jobs, one at a time."""
        text = SHOP.replace("CONFIGURATION", configuration).replace("HOOK", hook)
        (self.folder / "shop.py").write_text(text)
        env = environment(self.url, self.folder, AMQPJOBS_APP="shop:app", **variables)
        env["PYTHONPATH"] = f"{self.folder}:{ROOT}"
        asyncio.run(enqueue(self.url, job, range(count)))
        with running("consume", "--concurrency", "1", env=env, cwd=self.folder) as program:
            self._wait_for(program, r"job (done|failed)", count)
            program.signal()
            assert program.wait() == 0, program
        return str(program).removesuffix(f"\n{program.errors}"), program.errors

    def _wait_for(self, program: Program, pattern: str, times: int) -> None:
        """Wherever the lines are written; in two places, they are waited for in both."""

        def said() -> list[str]:
            return [str(program), *(path.read_text() for path in self.folder.glob("*.log"))]

        def complete() -> bool:
            counts = [len(re.findall(pattern, text)) for text in said()]
            return max(counts) >= times and not any(0 < count < times for count in counts)

        assert poll(complete, PATIENCE, 0.02), "\n".join(said())

    def file(self, name: str) -> str:
        return (self.folder / name).read_text()


@pytest.fixture
def shop(tmp_path: Path, broker: Broker) -> Shop:
    return Shop(tmp_path, broker)


def whole(text: str, event: str = "job done", outcome: str = "done") -> list[dict[str, Any]]:
    """The lines of jobs, which are JSON, each with all that it has."""
    lines = [json.loads(line) for line in text.splitlines()]
    ours = [line for line in lines if line["event"] == event]
    for line in ours:
        assert {"job", "job_id", "queue", "attempt", "worker", "waited_ms", "running_ms"} <= (
            line.keys()
        )
        assert line["outcome"] == outcome
    return ours


def in_order(text: str, pattern: str) -> None:
    assert [int(n) for n in re.findall(pattern, text)] == list(range(JOBS))


PLAIN_LINE = r"job done job=send job_id=[0-9a-f-]{36} queue=work attempt=1 outcome=done worker=\S+ "


def plain(text: str, before: str) -> None:
    """Each job's line in the application's form, whole, and nothing of it twice."""
    assert len(re.findall(f"(?m)^{before}{PLAIN_LINE}", text)) == JOBS, text
    assert text.count("job done") == JOBS
    assert text.count("worker is ready") == text.count("stopped ") == 1


# --- on stdout or stderr -----------------------------------------------------------------------


def test_basic_config(shop: Shop) -> None:
    """On stderr, in its form; stdout is empty."""
    out, err = shop.work("import logging; logging.basicConfig(level=logging.INFO)")
    assert out == ""
    plain(err, "INFO:amqpjobs.worker:")
    in_order(err, r"WARNING:shop.jobs:sending (\d+)\n")


def test_basic_config_and_always(shop: Shop) -> None:
    """JSON on stdout, as without it."""
    out, err = shop.work(
        "import logging; logging.basicConfig(level=logging.INFO)", AMQPJOBS_LOG_HANDLER="always"
    )
    assert err == ""
    assert len(whole(out)) == JOBS
    in_order(out, r'"event": "sending (\d+)"')


DJANGO = """
import logging.config
logging.config.dictConfig({
    "version": 1,
    "formatters": {"verbose": {"format": "[{levelname}] {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "verbose"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
})
"""


def test_djangos_dict_config(shop: Shop) -> None:
    """It disables loggers that it does not name, and the level of its root is a warning's: our
    lines are there."""
    out, err = shop.work(DJANGO)
    assert out == ""
    plain(err, r"\[INFO\] amqpjobs.worker: ")
    in_order(err, r"\[WARNING\] shop.jobs: sending (\d+)\n")


def test_a_hook_that_configures_logging(shop: Shop) -> None:
    """Such as one with ``django.setup()``: from then on our lines go where its lines go."""
    hook = "\n    ".join(["@app.on_start\ndef set_up() -> None:", *DJANGO.splitlines()])
    out, err = shop.work("", hook=hook)
    assert "job done" not in out
    plain(err, r"\[INFO\] amqpjobs.worker: ")


@pytest.mark.parametrize(
    "configuration",
    [
        '{"version": 1, "loggers": {"shop": {"level": "DEBUG"}}}',
        '{"version": 1, "incremental": True, "root": {"level": "ERROR"}}',
    ],
    ids=["others", "incremental"],
)
def test_a_dict_config_without_a_handler(shop: Shop, configuration: str) -> None:
    """Our lines are as without it, made by the fast path."""
    out, err = shop.work(f"import logging.config; logging.config.dictConfig({configuration})")
    assert err == ""
    assert len(whole(out)) == JOBS
    in_order(out, r'"event": "sending (\d+)"')


STRUCTLOG = """
import logging, structlog
handler = logging.StreamHandler()
handler.setFormatter(structlog.stdlib.ProcessorFormatter(
    foreign_pre_chain=[structlog.stdlib.add_log_level, structlog.stdlib.ExtraAdder()],
    processors=[
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.JSONRenderer(),
    ],
))
logging.getLogger().addHandler(handler)
logging.getLogger().setLevel("INFO")
"""


def test_structlog(shop: Shop) -> None:
    """Its lines, with our keys in them."""
    out, err = shop.work(STRUCTLOG)
    assert out == ""
    assert len(whole(err)) == JOBS
    in_order(err, r'"event": "sending (\d+)"')


LOGURU = """
import logging
from loguru import logger
from amqpjobs.telemetry.logs import keys_of

class InterceptHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        bound = logger.bind(**keys_of(record)).opt(depth=6, exception=record.exc_info)
        bound.log(record.levelname, record.getMessage())

logger.remove()
logger.add("loguru.log", format="{message} {extra}")
logging.basicConfig(handlers=[InterceptHandler()], level=20)
"""


@pytest.mark.parametrize("handler", ["auto", "never"])
def test_loguru(shop: Shop, handler: str) -> None:
    """Its handler gets every record. That it writes to stderr nobody can see: `never` is for it."""
    out, err = shop.work(LOGURU, AMQPJOBS_LOG_HANDLER=handler)
    file = shop.file("loguru.log")
    assert err == ""
    assert len(re.findall(r"(?m)^job done .*'job_id': ", file)) == file.count("job done") == JOBS
    in_order(file, r"(?m)^sending (\d+) \{'job': 'send', 'job_id'")
    assert len(whole(out)) == (0 if handler == "never" else JOBS)


# --- elsewhere ---------------------------------------------------------------------------------


def test_a_file_of_its_own(shop: Shop) -> None:
    """Rotating or not: it gets what stdout gets, in its form."""
    out, err = shop.work(
        "import logging; from logging.handlers import RotatingFileHandler as File\n"
        "logging.basicConfig(handlers=[File('own.log')], level=20, format='%(message)s')"
    )
    assert err == ""
    assert len(whole(out)) == shop.file("own.log").count("job done") == JOBS
    for text in (out, shop.file("own.log")):
        in_order(text, r"sending (\d+)")


SENTRY = """
import json, sentry_sdk
from sentry_sdk.transport import Transport

class Kept(Transport):
    def capture_envelope(self, envelope):
        event = envelope.get_event()
        if event is not None:
            with open("sentry.json", "a") as file:
                file.write(json.dumps(event, default=str) + "\\n")

sentry_sdk.init(dsn="https://key@sentry.example/1", transport=Kept)
"""


def test_sentry(shop: Shop) -> None:
    """One event for each job that failed, with its keys; and the log is as without it."""
    out, err = shop.work(SENTRY, "fail", 3)
    assert err == ""
    lines = whole(out, "job failed", "failed")
    events = [json.loads(line) for line in shop.file("sentry.json").splitlines()]
    assert [event["logger"] for event in events] == ["amqpjobs.worker"] * 3
    assert [event["extra"]["job_id"] for event in events] == [line["job_id"] for line in lines]
    assert [event["exception"]["values"][-1]["value"] for event in events] == [
        f"no address {n}" for n in range(3)
    ]


# --- processes of jobs -------------------------------------------------------------------------


def test_the_process_of_a_job(shop: Shop) -> None:
    """The application's module is imported there too, after our handler is there: the same rule."""
    out, err = shop.work("import logging; logging.basicConfig(level=20)", "count", 3)
    assert out == ""
    assert re.findall(r"WARNING:shop.jobs:counting (\d)\n", err) == ["0", "1", "2"]
    assert err.count("counting") == err.count("job done job=count") == 3


def test_the_process_of_a_job_without_a_configuration(shop: Shop) -> None:
    """As ever."""
    out, err = shop.work("", "count", 3)
    assert err == ""
    assert re.findall(r'"event": "counting (\d)"', out) == ["0", "1", "2"]
    assert len(whole(out)) == 3
