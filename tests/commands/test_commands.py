"""The command line as its users meet it: what it prints, what it says when it cannot, its status.

Errors are one line on stderr that says what to do; data is on stdout; no password is anywhere.
"""

import asyncio
import json
import re
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from amqpjobs.jobs.message.ids import keyed_id
from tests.support.amqp import count, drain, publish, stranger
from tests.support.brokers.broker_server import VirtualHost, poll
from tests.support.brokers.brokers import Broker
from tests.support.programs import Ledger, command, consuming, environment, running
from tests.support.waiting import until

SECRET = "hunter2-and-more"
SCRIPT = (str(Path(sys.executable).parent / "amqpjobs"),)


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def nowhere(tmp_path: Path) -> dict[str, str]:
    """The environment of a command whose broker is away."""
    return environment(f"amqp://user:{SECRET}@127.0.0.1:{closed_port()}/", tmp_path)


@contextmanager
def environment_at(broker: VirtualHost, folder: Path) -> Iterator[dict[str, str]]:
    """The environment of a command, its broker with a user whose password is worth a look."""
    name = f"user-{broker.name}"
    broker.server.add_user(name, SECRET, tags="management")
    broker.server.set_permissions(name, broker.name)
    url = broker.url.replace("guest:guest", f"{name}:{SECRET}")
    yield environment(url, folder, AMQPJOBS_MANAGEMENT_URL=broker.server.management_url)
    broker.server.delete_user(name)


@pytest.fixture
def env(broker_43: VirtualHost, tmp_path: Path) -> Iterator[dict[str, str]]:
    """For what does not depend on the broker's version."""
    with environment_at(broker_43, tmp_path) as variables:
        yield variables


@pytest.fixture
def env_everywhere(broker: VirtualHost, tmp_path: Path) -> Iterator[dict[str, str]]:
    """On every version in turn."""
    with environment_at(broker, tmp_path) as variables:
        yield variables


def one_line(done: Any, status: int, *parts: str) -> None:
    """It failed as it should: with that status, in one line that says so."""
    assert done.returncode == status, str(done)
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stdout == ""
    for part in parts:
        assert part in done.stderr
    assert SECRET not in done.stderr


# What needs no broker


def test_help_version_and_completion(nowhere: dict[str, str]) -> None:
    """The same program by its name and by `python -m`; completion for the shells."""
    version = command("--version", env=nowhere)
    assert re.fullmatch(r"amqpjobs \d+\.\d+\.\d+\n", version.stdout)
    assert command("--version", env=nowhere, program=SCRIPT).stdout == version.stdout
    usage = command("--help", env=nowhere)
    assert usage.returncode == 0
    for name in ("consume", "run", "enqueue", "shell", "queues", "dead", "topology", "doctor"):
        assert name in usage.stdout
    assert "Usage: amqpjobs" in command("--help", env=nowhere, program=SCRIPT).stdout
    bash = nowhere | {"_AMQPJOBS_COMPLETE": "source_bash"}
    completion = command(env=bash, program=SCRIPT)
    assert completion.returncode == 0
    assert "_AMQPJOBS_COMPLETE" in completion.stdout


@pytest.mark.parametrize(
    ("app", "says"),
    [
        ("", "AMQPJOBS_APP"),
        ("nowhere.module:app", "no module 'nowhere'"),
        ("tests.support.jobs:nothing", "no 'nothing'"),
        ("tests.support.jobs:work", "not an amqpjobs.App"),
        ("tests.support.jobs:", "package.module:app"),
        (":app", "package.module:app"),
        ("tests/support/jobs.py", "module"),
        ("tests..jobs:app", "jobs"),
    ],
)
def test_a_wrong_app_is_a_usage_error(nowhere: dict[str, str], app: str, says: str) -> None:
    """One line that says what to write, exit status 2."""
    one_line(command("topology", "show", env=nowhere | {"AMQPJOBS_APP": app}), 2, says)


@pytest.mark.parametrize("name", ["broken", "raising", "exiting"])
def test_a_module_that_cannot_be_imported_says_why(
    nowhere: dict[str, str], tmp_path: Path, name: str
) -> None:
    """A syntax error, an exception, a `sys.exit`: one line; the traceback with --debug."""
    (tmp_path / "broken.py").write_text("def (:\n")
    (tmp_path / "raising.py").write_text("1 / 0\n")
    (tmp_path / "exiting.py").write_text("import sys\nsys.exit(0)\n")
    env = nowhere | {"AMQPJOBS_APP": f"{name}:app"}
    one_line(command("topology", "show", env=env, cwd=tmp_path), 2, "import failed")
    debug = command("--debug", "topology", "show", env=env, cwd=tmp_path)
    assert "Traceback" in debug.stderr
    assert f"{name}.py" in debug.stderr


def test_a_job_that_cannot_be_one_names_the_function(
    nowhere: dict[str, str], tmp_path: Path
) -> None:
    """When the module loads: file, line and what to do."""
    (tmp_path / "wrong.py").write_text(
        "from amqpjobs import App\napp = App('wrong')\n\n@app.job(queue='q')\nasync def f(x): ...\n"
    )
    env = nowhere | {"AMQPJOBS_APP": "wrong:app"}
    one_line(
        command("topology", "show", env=env, cwd=tmp_path), 2, "wrong.py:", "'x'", "annotation"
    )


@pytest.mark.parametrize(
    ("url", "status", "says"),
    [
        ("http://127.0.0.1/", 2, "amqp://"),
        ("127.0.0.1:5672", 2, "amqp://"),
        (f"amqp://user:{SECRET}@127.0.0.1:port/", 2, "amqp://"),
        (f"amqp://user:12/{SECRET}@127.0.0.1/", 2, "%2F"),
        (f"amqp://user:12#{SECRET}@127.0.0.1/", 2, "%23"),
        (f"amqp://user:12?{SECRET}@127.0.0.1/", 2, "%3F"),
        (f"amqp://user:{SECRET}@does-not-exist.invalid/", 3, "does-not-exist.invalid"),
    ],
)
def test_a_wrong_url_is_told_without_its_password(
    tmp_path: Path, url: str, status: int, says: str
) -> None:
    """What is wrong with it, and how to write it; a password with a slash shows nowhere."""
    env = environment(url, tmp_path)
    one_line(command("queues", env=env), status, says)
    debug = command("--debug", "queues", env=env)
    assert debug.returncode != 0
    assert SECRET not in debug.stdout + debug.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("consume", "work"),
        ("consume", "work", "--processes", "2"),
        ("queues",),
        ("queues", "--json"),
        ("dead", "list"),
        ("dead", "show", "x"),
        ("topology", "apply"),
        ("topology", "check"),
        ("doctor",),
        ("enqueue", "quick", "--args", "1"),
    ],
)
def test_a_broker_that_is_away_is_exit_status_3(
    nowhere: dict[str, str], arguments: tuple[str, ...]
) -> None:
    """At once, in one line; a script can tell it from a failed job."""
    begin = time.monotonic()
    done = command(*arguments, env=nowhere)
    if "--processes" in arguments:
        # Both children may have said it before their parent stops them.
        done.stderr = "\n".join(set(done.stderr.splitlines()))
    one_line(done, 3, "cannot be reached", "AMQPJOBS_URL")
    assert time.monotonic() - begin < 10


def test_a_traceback_comes_with_debug_only(nowhere: dict[str, str]) -> None:
    """And the password is not in it."""
    debug = command("--debug", "queues", env=nowhere)
    assert debug.returncode != 0
    assert "Traceback" in debug.stderr
    assert SECRET not in debug.stdout + debug.stderr


def test_settings_that_cannot_be_used_are_named(nowhere: dict[str, str]) -> None:
    """The variable, and never its value."""
    env = nowhere | {"AMQPJOBS_CONCURRENCY": SECRET}
    one_line(command("consume", "work", env=env), 2, "AMQPJOBS_CONCURRENCY")


def test_a_job_runs_here_without_a_broker(nowhere: dict[str, str]) -> None:
    """`run`: the result on stdout, the job's status; arguments from the command line or stdin."""
    done = command("run", "quick", "--args", "21", env=nowhere)
    assert (done.returncode, done.stdout) == (0, "42\n"), str(done)
    piped = command("run", "quick", "--args", "-", env=nowhere, stdin="4")
    assert (piped.returncode, piped.stdout) == (0, "8\n"), piped
    album = command(
        "run", "Album.publish", "--args", '{"self": {"name": "a"}, "n": 3}', env=nowhere
    )
    assert (album.returncode, album.stdout) == (0, '"a 3"\n'), album


def test_a_job_that_fails_here_is_exit_status_1(nowhere: dict[str, str]) -> None:
    """With its traceback, for it is the user's own code; wrong arguments are one line."""
    failed = command("run", "fail", "--args", '{"n": 5}', env=nowhere)
    assert failed.returncode == 1
    assert failed.stdout == ""
    assert "ValueError: job 5 cannot be done" in failed.stderr
    one_line(command("run", "quick", "--args", '"x"', env=nowhere), 2, "--args", "n:")
    one_line(command("run", "quick", "--args", "{", env=nowhere), 2, "--args")
    one_line(command("run", "nothing", env=nowhere), 2, "nothing", "quick")


def test_an_interrupted_job_is_exit_status_130(nowhere: dict[str, str]) -> None:
    """Ctrl-C tells the job to stop; the second one cancels it."""
    ledger = Ledger(nowhere)
    with running("run", "hold", "--args", "1", env=nowhere) as program:
        ledger.wait_for("started", [1])
        program.signal(signal.SIGINT)
        program.signal(signal.SIGINT)
        assert program.wait() == 130, program.errors
        assert "Traceback" not in program.errors
    assert ledger.of("cancelled") == [1]


def test_an_unknown_queue_is_a_usage_error(nowhere: dict[str, str]) -> None:
    """Before any connection; says which there are."""
    one_line(command("consume", "wrok", env=nowhere), 2, "wrok", "work")
    one_line(command("consume", "wrok", "--processes", "2", env=nowhere), 2, "wrok", "work")


def test_topology_show_needs_no_broker(nowhere: dict[str, str]) -> None:
    """For people and for programs."""
    table = command("topology", "show", env=nowhere)
    assert (table.returncode, table.stderr) == (0, "")
    assert "lanes.high" in table.stdout
    rows = json.loads(command("topology", "show", "--json", env=nowhere).stdout)
    assert {"kind": "exchange", "name": "amqpjobs.dead", "arguments": {"type": "direct"}} in rows


# What a broker refuses


def test_refused_logins_and_missing_hosts(
    env_everywhere: dict[str, str], broker: VirtualHost
) -> None:
    """Exit status 3; says what to check, and shows no password, with --debug either."""
    env = env_everywhere
    url = env["AMQPJOBS_URL"]
    wrong_login = env | {"AMQPJOBS_URL": url.replace(SECRET, f"{SECRET}x")}
    wrong_host = env | {"AMQPJOBS_URL": f"{url.rpartition('/')[0]}/missing"}
    for arguments in (("queues",), ("consume", "work"), ("enqueue", "quick", "-a", "1")):
        one_line(command(*arguments, env=wrong_login), 3, "refused the login", "password")
        one_line(command(*arguments, env=wrong_host), 3, "virtual host")
    debug = command("--debug", "queues", env=wrong_login)
    assert "Traceback" in debug.stderr
    assert SECRET not in debug.stdout + debug.stderr
    # A flag goes before the environment.
    one_line(command("queues", "--url", wrong_host["AMQPJOBS_URL"], env=env), 3, "virtual host")


# The way of a job, by commands


def test_enqueue_prints_the_id_that_the_worker_logs(env: dict[str, str]) -> None:
    """Plain, with --json, with a priority, a key, from stdin; wrong ones are refused before
    sending."""
    with consuming(env=env) as worker:
        plain = command("enqueue", "quick", "--args", "1", env=env)
        assert (plain.returncode, plain.stderr) == (0, ""), plain
        worker.wait_for("job done", job_id=plain.stdout.strip())
        rich = command(
            "enqueue", "urgent", "-a", "-", "--priority", "high", "--json", env=env, stdin="2"
        )
        handle = json.loads(rich.stdout)
        assert handle["queue"] == "lanes.high"
        worker.wait_for("job done", job_id=handle["id"], queue="lanes")
        keyed = ("enqueue", "quick", "-a", "3", "--key", "order-7")
        ids = [command(*keyed, env=env).stdout.strip() for _ in range(2)]
        assert ids[0] == ids[1] == keyed_id("jobs", "quick", "order-7")
        worker.wait_for("job done", times=2, job_id=ids[0])
        carried = ("--header", "tenant=acme", "--tag", "a", "--tag", "b", "--queue", "lanes")
        given = ("--id", "order-7", "--run-timeout", "1m", *carried)
        named = command("enqueue", "quick", "-a", "4", *given, env=env)
        assert named.stdout == "order-7\n", named
        worker.wait_for("job done", job_id="order-7", queue="lanes", tags=["a", "b"])
        one_line(command("enqueue", "quick", "-a", "1", "--queue", "lane", env=env), 2, "'lanes'")
        one_line(
            command("enqueue", "quick", "--key", "a", "--id", "b", "-a", "1", env=env), 2, "--id"
        )
        one_line(command("enqueue", "quick", "-a", "1", "--header", "a", env=env), 2, "name=value")
        one_line(command("enqueue", "quick", "-a", "1", "--key", " ", env=env), 2, "--key")
        one_line(command("enqueue", "urgent", "-a", "1", "--priority", "7", env=env), 2, "'high'")
        one_line(command("enqueue", "quick", "-a", '"x"', env=env), 2, "--args", "n:")
        one_line(command("enqueue", "nothing", env=env), 2, "nothing")
        for line in worker.lines:
            assert line["timestamp"]
        assert SECRET not in str(worker)


def test_a_failed_job_is_looked_at(env: dict[str, str], broker_43: VirtualHost) -> None:
    """`dead list`, `dead show`, `queues`: tables for people, JSON for programs."""
    with consuming(env=env) as worker:
        body = json.dumps({"n": 5, "secret": "s3"})
        job_id = command("enqueue", "fail", "--args", body, env=env).stdout.strip()
        worker.wait_for("job failed", job_id=job_id)
        assert poll(lambda: _ready(broker_43, "work.dead") == 1, 10)
        asyncio.run(_foreign(broker_43.url))
        assert poll(lambda: _ready(broker_43, "work.dead") == 2, 10)
        assert "s3" not in str(worker), "arguments are not logged"
    table = command("dead", "list", "work", "--each", env=env)
    assert (table.returncode, table.stderr) == (0, "")
    assert job_id in table.stdout
    assert "job 5 cannot be done" in table.stdout
    rows = json.loads(command("dead", "list", "--each", "--json", env=env).stdout)
    assert [row["reason"] for row in rows] == ["failed", "invalid"]
    assert rows[0]["exception"] == "ValueError"
    assert "tests/support/jobs.py" in rows[0]["frames"][0]
    assert rows[0]["worker"].endswith(f":{worker.pid}")
    show = command("dead", "show", job_id, env=env)
    assert "cannot be done" in show.stdout
    assert '"secret": "s3"' in show.stdout
    whole = json.loads(command("dead", "show", job_id, "--json", env=env).stdout)[0]
    assert whole["body"] == {"n": 5, "secret": "s3"}
    binary = json.loads(command("dead", "show", "foreign", "--json", env=env).stdout)[0]
    assert binary["json"] is False
    one_line(command("dead", "show", "nothing", env=env), 1, "nothing")
    one_line(command("dead", "list", "nothing", env=env), 2, "nothing")
    listed = {r["queue"]: r for r in json.loads(command("queues", "--json", env=env).stdout)}
    assert listed["work"]["dead"] == 2
    assert {"lanes", "lanes.high", "work"} <= set(listed)
    assert listed["work"]["ready"] == listed["work"]["consumers"] == 0
    people = command("queues", env=env)
    assert re.search(r"work\s+-\s+-\s+0", people.stdout), people.stdout
    for done in (table, show, people):
        assert "\x1b[" not in done.stdout, "no colours without a terminal"
        assert SECRET not in done.stdout


def _ready(broker: VirtualHost, queue: str) -> int:
    async def look() -> int:
        async with stranger(broker.url) as channel:
            return await count(channel, queue)

    return asyncio.run(look())


async def _foreign(url: str) -> None:
    async with stranger(url) as channel:
        await publish(channel, "work", b"\xff\x00", type="quick", message_id="foreign")


async def _three(channel: Any) -> bool:
    return await count(channel, "work.dead") == 3


def test_looking_thirty_times_loses_no_dead_letter(
    env_everywhere: dict[str, str], broker: VirtualHost
) -> None:
    """Each look gives it back; a delivery limit of 20 would have dropped it. Order is kept."""
    env = env_everywhere

    async def look_and_take() -> None:
        from amqpjobs.broker.rabbitmq.inspection.queues import connected, peek
        from tests.support.workers import app_at

        app = app_at(broker.url)

        @app.job(queue="work")
        async def job(n: int) -> None: ...

        async with app.lifespan(), stranger(broker.url) as channel:
            for n in range(3):
                await publish(channel, "work.dead", str(n).encode(), message_id=str(n))
        async with connected(app.settings, "inspect") as wire:
            for _ in range(28):
                async with stranger(broker.url) as channel:
                    await until(lambda on=channel: _three(on), "all are back")
                assert [f.body for f in await peek(wire, "work.dead", 10)] == [b"0", b"1", b"2"]

    asyncio.run(look_and_take())
    for _ in range(2):
        rows = json.loads(command("dead", "list", "work", "--each", "--json", env=env).stdout)
        assert [row["id"] for row in rows] == ["0", "1", "2"]
    found = asyncio.run(drain(broker.url, "work.dead"))
    assert [m.message_id for m in found] == ["0", "1", "2"]


def test_queues_can_be_watched(env: dict[str, str]) -> None:
    """It shows them at once, and ends on Ctrl-C without a traceback, with status 130."""
    assert command("topology", "apply", env=env).returncode == 0
    with running("queues", "--watch", env=env) as program:
        assert poll(lambda: "lanes.high" in program._out.read_text() or program.ended, 15)
        program.signal(signal.SIGINT)
        assert program.wait() == 130, program.errors
        assert "Traceback" not in program.errors
        assert program._out.read_text().count("consumers") <= 3


def test_looking_where_nothing_was_declared_says_so(env: dict[str, str]) -> None:
    """No queues yet: the table has dashes, dead letters name the fix."""
    rows = json.loads(command("queues", "--json", env=env).stdout)
    assert {row["exists"] for row in rows} == {False}
    one_line(command("dead", "list", env=env), 1, "does not exist", "topology apply")


def test_the_shell_knows_the_app_and_awaits(env: dict[str, str], broker_43: VirtualHost) -> None:
    """Driven by stdin: names are there, `await` works at the prompt, and it leaves quietly."""
    assert command("topology", "apply", env=env).returncode == 0
    typed = (
        "job = await quick.later(5)\nprint('id', job.id)\n"
        "print(await quick(4))\nawait fail.later('x')\n"
        "print(await Album(name='a').publish(1))\nx = 6 * 7\nprint('x', x)\nquick.later(6)\n"
    )
    done = command("shell", env=env, stdin=typed)
    assert done.returncode == 0, str(done)
    for part in ("id ", "8", "a 1", "x 42"):
        assert part in done.stdout
    assert "InvalidArguments" in done.stderr
    assert "not run: Job.later() returned a coroutine; put `await` before it" in done.stderr
    assert "During handling" not in done.stderr
    job_id = next(li for li in done.stdout.splitlines() if "id " in li).rpartition(" ")[2]
    assert [m.message_id for m in asyncio.run(drain(broker_43.url, "work"))] == [job_id]
    for noise in ("never retrieved", "was destroyed", "Unclosed", "ResourceWarning"):
        assert noise not in done.stderr


def test_the_doctor_examines(env_everywhere: dict[str, str], broker: VirtualHost) -> None:
    """Missing queues are warnings; a different one is an error and exit status 1, each with its
    fix; all is JSON on request."""
    env = env_everywhere
    bare = command("doctor", "--json", env=env)
    assert bare.returncode == 0, bare
    rows = json.loads(bare.stdout)
    version = next(r for r in rows if r["check"] == "version")
    assert broker.server.server_version() in version["finding"]
    assert all(r["fix"] for r in rows if r["state"] != "ok")
    assert any("missing" in r["finding"] for r in rows)
    assert command("topology", "apply", env=env).returncode == 0
    fine = command("doctor", env=env)
    assert fine.returncode == 0
    assert "as declared" in fine.stdout
    assert "missing" not in fine.stdout


def test_colours_are_for_terminals_and_can_be_refused(env: dict[str, str]) -> None:
    """On a terminal the log is readable lines, in colour unless NO_COLOR is set."""
    if shutil.which("script") is None:
        pytest.skip("needs script(1)")
    assert command("topology", "apply", env=env).returncode == 0
    amqpjobs = f"{sys.executable} -m amqpjobs"
    terminal = ("script", "-qec", f"{amqpjobs} topology show", "/dev/null")
    assert "\x1b[1m" in command(program=terminal, env=env | {"TERM": "xterm"}).stdout
    plain = command(program=terminal, env=env | {"TERM": "xterm", "NO_COLOR": "1"})
    assert "lanes.high" in plain.stdout
    assert not re.search(r"\x1b\[3\d", plain.stdout)


def test_a_broker_that_goes_away_in_the_middle_is_no_traceback(
    own_broker: Broker, tmp_path: Path
) -> None:
    """A worker goes on and says so in its log; nothing is on stderr."""
    env = environment(own_broker.url, tmp_path)
    ledger = Ledger(env)
    with consuming("work", env=env) as worker:
        own_broker.kill()
        worker.wait_for("connection lost, reconnecting", times=2)
        worker.wait_for("no connection to RabbitMQ")
        own_broker.start()
        worker.wait_for("connected", times=2, timeout=60)
        assert command("enqueue", "quick", "--args", "1", env=env).returncode == 0
        ledger.wait_for("done", [1])
        assert worker.errors == ""
        assert "Traceback" not in str(worker)
