"""A script that was just written, and no broker: what its author sees."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.programs import KEPT, ROOT

SHOP = """
import asyncio, sys
import amqpjobs, amqpjobs.settings
from pydantic import SecretStr

# Where the default is, another broker of this machine may be.
amqpjobs.settings.Settings.model_fields["url"].default = SecretStr("amqp://guest:guest@127.0.0.1:1/")
amqpjobs.settings.Settings.model_rebuild(force=True)
app = amqpjobs.App("shop")

@app.job(queue="receipts")
async def send(order: int) -> None: ...

if sys.argv[1] == "later":
    asyncio.run(send.later(1))
else:
    with app.blocking() as client:
        client.later(send.message(1))
"""


@pytest.mark.parametrize("way", ["later", "blocking"])
def test_without_a_url_and_a_broker_a_script_says_so_at_once(tmp_path: Path, way: str) -> None:
    """It waited for half a minute, and wrote 35 lines. Where a URL is set, it waits."""
    (tmp_path / "shop.py").write_text(SHOP)
    given = [sys.executable, "shop.py", way]
    env = KEPT | {"PYTHONPATH": str(ROOT)}
    began = time.monotonic()
    done = subprocess.run(
        given, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=50, check=False
    )
    assert time.monotonic() - began < 15, "and it imports for a second or two of that"
    *above, last = done.stderr.splitlines()
    assert last.startswith(
        "amqpjobs.errors.BrokerUnavailable: there is no broker: AMQPJOBS_URL is not set, and none "
        "is at amqp://guest@127.0.0.1:1/ ("
    )
    assert last.endswith("set it, or run `amqpjobs broker`, which is one for development")
    assert [line for line in above if not line.startswith(" ")][1:] == [], (
        "one traceback, of the script and its call, and no line of a log"
    )


def test_with_a_url_it_waits_and_no_library_says_anything(tmp_path: Path) -> None:
    """The broker may be starting. Its error has the cause; aiormq's lines are not shown."""
    (tmp_path / "shop.py").write_text(SHOP)
    given = [sys.executable, "shop.py", "later"]
    env = KEPT | {
        "PYTHONPATH": str(ROOT),
        "AMQPJOBS_URL": "amqp://guest:guest@127.0.0.1:1/",
        "AMQPJOBS_PUBLISH_TIMEOUT": "0.5",
    }
    done = subprocess.run(
        given, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=50, check=False
    )
    assert "RabbitMQ unreachable, starting without it" in done.stderr
    assert "NotConfirmed: not confirmed within 0.5 s: no connection" in done.stderr
    assert "error when creating transport" not in done.stderr
    assert "never retrieved" not in done.stderr
