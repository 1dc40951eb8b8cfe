"""Commands and the HTTP API with jobs whose messages are not JSON."""

import asyncio
import json
import stat
import sys
from pathlib import Path

import msgpack

from tests.support import format_jobs
from tests.support.amqp import count, declare, publish, stranger, take
from tests.support.brokers.broker_server import VirtualHost
from tests.support.programs import command, environment
from tests.support.web import served
from tests.support.workers import app_at, working


async def test_arguments_are_given_as_json(broker: VirtualHost, tmp_path: Path) -> None:
    """And sent in the format of the job; by `run` they take the same way without a broker."""
    env = environment(broker.url, tmp_path, AMQPJOBS_APP="tests.support.format_jobs:app")
    given = '{"data": "_wA=", "n": 3}'
    ran = await asyncio.to_thread(command, "run", "packed", "--args", given, env=env)
    assert (ran.returncode, json.loads(ran.stdout)) == (0, {"size": 2, "n": 3}), ran
    sent = await asyncio.to_thread(command, "enqueue", "packed", "--args", given, env=env)
    assert sent.returncode == 0, sent
    message = await take(broker.url, "formats")
    assert msgpack.unpackb(message.body) == {"data": b"\xff\x00", "n": 3}
    assert message.content_type == "application/msgpack"
    wrong = await asyncio.to_thread(command, "enqueue", "packed", "--args", "{}", env=env)
    assert wrong.returncode == 2
    assert "data: Field required" in wrong.stderr


async def test_over_http(broker: VirtualHost) -> None:
    """As JSON, and its schema says so."""
    with format_jobs.app.placed(settings=app_at(broker.url).settings):
        async with served(format_jobs.app) as client:
            answer = await client.post("/jobs/packed", json={"data": "_wA="})
            assert answer.status_code == 202, answer.text
            refused = await client.post("/jobs/packed", json={"data": 5})
            assert refused.status_code == 422
            large = await client.post("/jobs/packed", json={"data": "", "n": 2**70})
            assert (large.status_code, "n" in large.json()) == (422, False)
            described = (await client.get("/jobs/schemas")).json()
    assert "contentEncoding" in json.dumps(described)
    message = await take(broker.url, "formats")
    assert msgpack.unpackb(message.body) == {"data": b"\xff\x00"}


async def test_dead_letters_are_shown_and_edited(broker: VirtualHost, tmp_path: Path) -> None:
    """Text as text, with its white space; of all else the size and the beginning."""
    env = environment(broker.url, tmp_path, AMQPJOBS_APP="tests.support.format_jobs:app")
    with format_jobs.app.placed(settings=app_at(broker.url).settings):
        async with working(format_jobs.app):
            pass
        async with stranger(broker.url) as channel:
            packed = msgpack.packb({"data": b"\xff", "n": 1})
            bodies = ("text", b' {"a":  1}\n'), ("raw", b"\xff" * 100), ("packed", packed)
            for n, (job, body) in enumerate(bodies):
                kind = {"content_type": "application/octet-stream", "type": job}
                await publish(channel, "formats.dead", body, message_id=f"id-{n}", **kind)

    def run(*arguments: str, **variables: str) -> str:
        done = command("dead", *arguments, env=env | variables)
        assert done.returncode == 0, done
        return done.stdout

    shown = await asyncio.to_thread(run, "show", "id-1")
    assert f"100 bytes: {'ff ' * 32}..." in shown
    [whole] = json.loads(await asyncio.to_thread(run, "show", "id-0", "--json"))
    # To a program that only shows it, a text may be JSON.
    assert whole["body"] == {"a": 1}
    script = tmp_path / "editor"
    script.write_text(
        f"#!{sys.executable}\nimport pathlib, sys\npath = pathlib.Path(sys.argv[-1])\n"
        "path.write_text(path.read_text().replace('a', 'b'))\n"
    )
    script.chmod(script.stat().st_mode | stat.S_IEXEC)
    await asyncio.to_thread(run, "edit", "id-0", VISUAL=str(script), TMPDIR=str(tmp_path))
    message = await take(broker.url, "formats")
    assert message.body == b' {"b":  1}\n'
    script.write_text(
        f"#!{sys.executable}\nimport pathlib, sys\npath = pathlib.Path(sys.argv[-1])\n"
        "path.write_text(path.read_text().replace('\"n\": 1', '\"n\": 5'))\n"
    )
    edited = {"VISUAL": str(script), "TMPDIR": str(tmp_path)}
    await asyncio.to_thread(run, "edit", "id-2", **edited)
    message = await take(broker.url, "formats")
    assert msgpack.unpackb(message.body) == {"data": b"\xff", "n": 5}
    script.write_text("#!/bin/false\n")
    done = command("dead", "edit", "id-1", env=env | edited)
    assert done.returncode != 0
    assert "its body is no text" in done.stderr
    async with stranger(broker.url) as channel:
        await declare(channel, "other")
        assert await count(channel, "formats.dead") == 1
