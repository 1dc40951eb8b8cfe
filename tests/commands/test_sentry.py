"""Sentry's own SDK in a process of its own: it patches what it finds, logging among it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

from tests.support.programs import ROOT

PROGRAM = """
import asyncio, json, logging
import sentry_sdk
from sentry_sdk.transport import Transport
from amqpjobs import App, Context, Reject, Retry
from amqpjobs.contrib.sentry import Sentry

events = []

class Kept(Transport):
    def capture_envelope(self, envelope):
        events.extend(i.payload.json for i in envelope.items if i.type == "event")

sentry_sdk.init(dsn="https://key@sentry.example/1", transport=Kept, {options})
app = App("shop", processing=[Sentry()], retry=Retry(attempts=3))

@app.job(queue="mails")
async def send(ctx: Context, to: str) -> None:
    sentry_sdk.add_breadcrumb(message=f"attempt {{ctx.attempt}} for {{to}}")
    raise OSError(f"no mail server for {{to}}")

@app.job(queue="mails")
def in_a_thread() -> None:
    sentry_sdk.add_breadcrumb(message="in a thread")
    raise LookupError("thread")

@app.job(queue="mails")
async def refuse() -> None:
    raise Reject("no such order")

@app.job(queue="mails")
async def fine() -> None:
    sentry_sdk.add_breadcrumb(message="fine")

async def main():
    async with app.testing(raise_errors=False) as t:
        await fine.later()
        await send.later("ada")
        await t.run_until_idle()
        assert not events, events
        await t.advance(600)
        await in_a_thread.later()
        await refuse.later()
        await t.run_until_idle()
        await t.advance(600)
    sentry_sdk.flush()
    print(json.dumps(events))

asyncio.run(main())
"""


def events_of(folder: Path, options: str = "") -> list[dict[str, Any]]:
    program = folder / "program.py"
    program.write_text(dedent(PROGRAM).format(options=options))
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, program], env=env, capture_output=True, check=False, text=True
    )
    assert done.returncode == 0, done.stderr
    events: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return events


def test_a_job_that_has_failed_is_one_event(tmp_path: Path) -> None:
    """Not one for each run, nor another one for its log line. What is rejected comes by its log
    line."""
    first, second, third = events_of(tmp_path)
    assert first["exception"]["values"][0]["value"] == "no mail server for ada"
    assert first["tags"] == {"amqpjobs.job": "send", "amqpjobs.queue": "mails"}
    facts = first["contexts"]["amqpjobs"]
    assert (facts["attempt"], facts["job"], len(facts["job_id"])) == (3, "send", 36)
    assert first["transaction"] == "send"
    crumbs = [crumb["message"] for crumb in first["breadcrumbs"]["values"]]
    assert crumbs == ["attempt 3 for ada"]
    ended = {event["exception"]["values"][0]["type"] for event in (first, second, third)
             if "exception" in event}  # fmt: skip
    assert ended == {"OSError", "LookupError"}
    (refused,) = (event for event in (second, third) if "exception" not in event)
    assert refused["logentry"]["message"] == "job %s"


def test_a_thread_has_the_scope_of_its_run(tmp_path: Path) -> None:
    """Its breadcrumbs too. Without the integration of logging there are the errors alone."""
    _, second = events_of(tmp_path, "default_integrations=False")
    assert second["tags"]["amqpjobs.job"] == "in_a_thread"
    assert [crumb["message"] for crumb in second["breadcrumbs"]["values"]] == ["in a thread"]
