"""``amqpjobs broker``: run by itself, as a person and as a program start it."""

import asyncio
import json
import signal
import socket
import subprocess
from contextlib import contextmanager

import pytest

from amqpjobs.broker.embedded import Broker
from amqpjobs.cli.broker import Rates
from tests.support.amqp import declare, publish, stranger
from tests.support.programs import PROGRAM, ROOT, Ledger, command, consuming, environment
from tests.support.terminal import Terminal

ENV = environment("amqp://nowhere", ROOT)


@contextmanager
def embedded(*arguments, **options):
    """The command, as it runs."""
    program = subprocess.Popen(
        [*PROGRAM, "broker", "--port", "0", *arguments], env=ENV, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
    )  # fmt: skip
    try:
        yield program
    finally:
        if program.poll() is None:
            program.kill()
        program.communicate(timeout=20)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_commands_work_on_it(tmp_path, number):
    """Enqueue, consume, and what was in it is gone when it is stopped, with exit status 0."""
    with embedded("--json") as program:
        said = json.loads(program.stdout.readline())
        assert (said["profile"], said["url"]) == (
            "4.3.6", f"amqp://guest:guest@127.0.0.1:{said['port']}/",
        )  # fmt: skip
        env = environment(said["url"], tmp_path)
        enqueued = command("enqueue", "quick", "--args", "7", env=env)
        assert enqueued.returncode == 0, enqueued.stderr
        with consuming("work", env=env):
            Ledger(env).wait_for("done", [7])
        program.send_signal(number)
        _, errors = program.communicate(timeout=20)
        assert program.returncode == 0
        assert errors == "stopped; what was in the queues is gone\n"


def test_it_says_plainly_what_it_is():
    """To a person, with where it is and how it ends."""
    with embedded("--profile", "3.10") as program:
        first, second = program.stdout.readline(), program.stdout.readline()
        assert first.startswith("a broker for development at amqp://guest:guest@127.0.0.1:")
        assert "acts as RabbitMQ 3.10.8: in memory, for development and tests" in second


def test_a_port_that_is_taken_is_a_clear_error():
    """Usage, and the fix."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = command("broker", "--port", str(port), env=ENV)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"amqpjobs: port {port} is taken: another broker is there")
    assert done.stderr.count("\n") == 1


def test_a_profile_that_there_is_not_is_a_clear_error():
    """It names those that there are."""
    done = command("broker", "--profile", "3.9", env=ENV)
    assert done.returncode == 2
    assert "choose one of 3.10, 4.3" in done.stderr


def test_doctor_knows_it_for_what_it_is(tmp_path):
    """Good for development: a warning, and no error."""
    with Broker.in_thread() as broker:
        env = environment(broker.url, tmp_path)
        assert command("topology", "apply", env=env).returncode == 0
        done = command("doctor", "--json", env=env)
    checks = {check["check"]: check for check in json.loads(done.stdout)}
    assert checks["version"]["state"] == "warning"
    assert checks["version"]["finding"].startswith("amqpjobs embedded broker 4.3.6: ")
    assert "production is RabbitMQ" in checks["version"]["fix"]
    assert "error" not in {check["state"] for check in checks.values()}


def test_a_terminal_shows_the_queues():
    """A table that lives."""
    terminal = Terminal([*PROGRAM, "broker", "--port", "0"], ENV, ROOT)
    try:
        seen = terminal.wait_for("no queues yet")
        url = seen.partition("development at ")[2].split()[0]

        async def fill():
            async with stranger(url) as channel:
                await declare(channel, "papers")
                for _ in range(3):
                    await publish(channel, "papers", b"1")

        asyncio.run(fill())
        assert "unacked" in terminal.wait_for("papers")
        terminal.program.send_signal(signal.SIGINT)
        terminal.wait_for("stopped")
        assert terminal.program.wait(20) == 0
    finally:
        terminal.close()


async def test_rates_are_of_the_time_between_two_looks():
    """What came in and what went, by the second; nothing is known at the first look."""
    async with Broker() as broker, stranger(broker.url) as channel:
        await declare(channel, "papers")
        for _ in range(10):
            await publish(channel, "papers", b"1")
        rates = Rates()
        (row,) = rates.rows_of(broker, 100.0)
        assert (row["ready"], row["in/s"], row["out/s"]) == (10, None, None)
        for _ in range(6):
            await publish(channel, "papers", b"1")
        queue = await channel.get_queue("papers")
        for _ in range(4):
            await (await queue.get()).ack()
        await queue.declare()
        (row,) = rates.rows_of(broker, 102.0)
        assert (row["ready"], row["unacked"], row["in/s"], row["out/s"]) == (12, 0, 3, 2)


def test_any_user_and_virtual_host_work_on_it(tmp_path):
    """With --accept any: a project's URL, whose host is localhost, also by IPv6."""
    with embedded("--json", "--accept", "any") as program:
        said = json.loads(program.stdout.readline())
        assert said["accept"] == "any"
        for host in ("localhost", "[::1]"):
            env = environment(f"amqp://ada:s3cret@{host}:{said['port']}/shop", tmp_path)
            enqueued = command("enqueue", "quick", "--args", "7", env=env)
            assert enqueued.returncode == 0, enqueued.stderr
        with consuming("work", env=env):
            Ledger(env).wait_for("done", [7, 7])


def test_it_says_that_it_lets_everybody_in():
    """To a person; and another word is a clear error."""
    with embedded("--accept", "any") as program:
        lines = [program.stdout.readline() for _ in range(3)]
        assert lines[2] == "It lets every user in, to every virtual host, with whatever password.\n"
    done = command("broker", "--accept", "all", env=ENV)
    assert done.returncode == 2
    assert "--accept: 'named' or 'any', not 'all'" in done.stderr
