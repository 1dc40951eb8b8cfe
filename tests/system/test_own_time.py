"""Own processor time of a no-op job, a publish and a request beside aio-pika's in the same run.

Nobody doubles one of them unnoticed. Processor time, not rates: those are the machine's and the
broker's as well. It runs beside all other tests, which moves the shares by up to half: what is
smaller than that is found by the benchmarks. After a change that is meant to be, run this on a
machine that does nothing else with `STORED` at 0, and store what the failure says.
"""

import json
import os
import subprocess
import sys

import pytest

from tests.support.amqp import declare, stranger
from tests.support.brokers.broker_server import VirtualHost
from tests.support.programs import ROOT

CONTENDERS = ROOT / "tests/benchmarks/contenders"

STORED = {"consume": 0.18, "publish": 0.14, "request": 0.12}
"""amqpjobs by aio-pika. RabbitMQ 4.3.6, Python 3.11.7."""

SLACK = 2.0
TURNS = 3
COUNT = {"consume": 3_000, "fill": 3_000, "publish": 3_000, "both": 600}


def own_time(script: str, url: str, queue: str, work: str) -> float:
    """Seconds of processor time of one turn of a contender, by its own report."""
    done = subprocess.run(
        [sys.executable, str(CONTENDERS / script), url, queue, work, str(COUNT[work]), "100"],
        env=os.environ | {"PYTHONPATH": str(ROOT), "AMQPJOBS_LOG_LEVEL": "error"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    cpu: float = json.loads(done.stdout.splitlines()[-1])["cpu"]
    return cpu


def ratio(works: tuple[str, str, tuple[str, ...]], url: str) -> float:
    """The least of several turns of ours by the least of theirs, in turns."""
    ours, theirs, steps = works
    least: dict[str, float] = {}
    for _ in range(TURNS):
        for script in (ours, theirs):
            queue = f"own.{script.split('.')[0]}"
            *before, measured = steps
            for step in before:
                own_time(script, url, queue, step)
            cpu = own_time(script, url, queue, measured)
            least[script] = min(cpu, least.get(script, cpu))
    return least[ours] / least[theirs]


@pytest.mark.timeout(240)
async def test_it_is_as_small_a_share_as_ever(
    broker_43: VirtualHost,
) -> None:
    """Of what aio-pika needs for the same, with pydantic, confirms and acks."""
    async with stranger(broker_43.url) as channel:
        await declare(channel, "own.aio_pika_plain")
    jobs = ("amqpjobs_.py", "aio_pika_plain.py")
    found = {
        "consume": ratio((*jobs, ("fill", "consume")), broker_43.url),
        "publish": ratio((*jobs, ("publish",)), broker_43.url),
        "request": ratio(
            ("requests_amqpjobs.py", "requests_aio_pika.py", ("both",)), broker_43.url
        ),
    }
    for work, value in found.items():
        assert value < STORED[work] * SLACK, f"{found}, and {STORED} are stored"
