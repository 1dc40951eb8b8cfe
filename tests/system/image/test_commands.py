"""Every command from the image: what follows ``docker run IMAGE`` is the command line."""

import errno
import json
import signal
from collections.abc import Callable

from tests.support.brokers.broker_server import VirtualHost, poll
from tests.support.brokers.postgres import Postgres
from tests.support.waiting import PATIENCE
from tests.system.image.engine import Image, Place

Make = Callable[..., Place]


def test_one_off_commands_have_the_same_code_and_settings(
    broker: VirtualHost, place: Make, image: Image
) -> None:
    """A job run at once, the prompt, the topology, the queues, and what the doctor says."""
    here = place(broker)
    before = image.state()
    run = here.run("run", "quick", "--args", "21")
    assert (run.returncode, run.stdout) == (0, "42\n"), run.stderr
    failed = here.run("run", "fail", "--args", '{"n": 3}')
    assert failed.returncode == 1
    assert "ValueError: job 3 cannot be done" in failed.stderr

    shell = here.run("shell", stdin="job = await quick.later(7)\nprint('sent', job.queue)\n")
    assert shell.returncode == 0
    assert "sent work" in shell.stdout
    queues = here.run("queues", "--json")
    assert {row["queue"]: row["ready"] for row in json.loads(queues.stdout)}["work"] == 1

    checked = here.run("topology", "check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    doctor = here.run("doctor")
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    assert image.state() == before


def test_a_recorder_is_healthy_and_stops(
    broker_43: VirtualHost, place: Make, postgres: Postgres
) -> None:
    """By the same health check as a worker, which Docker makes of every container."""
    here = place(broker_43, AMQPJOBS_STORE_URL=postgres.new_database())
    assert here.run("record").returncode == 2  # not migrated: it says so
    assert here.run("migrate").returncode == 0
    with here.running("record") as recorder:
        recorder.wait_for("consuming", queue="amqpjobs.recorder")
        assert recorder.healthy().startswith("healthy: ok,")
        recorder.signal(signal.SIGTERM)
        assert recorder.wait() == 0


def test_nothing_can_be_written_but_tmp(place: Make) -> None:
    """Not even by root: the file system is read only, and no shell is asked for it."""
    here = place()
    program = (
        "import errno, os, sys\n"
        "open('/tmp/fine', 'w').close()\n"
        "for place in ('/new', '/app', '/opt/amqpjobs/bin/amqpjobs'):\n"
        "    try:\n"
        "        os.open(place + '/x' if place == '/app' else place, os.O_WRONLY | os.O_CREAT)\n"
        "    except OSError as error:\n"
        "        print(place, error.errno)\n"
    )
    done = here.run(args=["python3", "-c", program], user={"uid": 0, "gid": 0})
    assert done.returncode == 0, done.stderr
    said = dict(line.split() for line in done.stdout.splitlines())
    assert said["/new"] == said["/opt/amqpjobs/bin/amqpjobs"] == str(errno.EROFS)


def test_wrong_settings_are_one_line_that_names_the_fix(
    broker_43: VirtualHost, place: Make
) -> None:
    """In the log of a container there is nobody to ask."""
    for arguments, settings, status, word in (
        (("web",), {}, 2, "AMQPJOBS_WEB_TOKEN"),
        (("consume",), {"AMQPJOBS_APP": ""}, 2, "AMQPJOBS_APP"),
        (("consume",), {"AMQPJOBS_APP": "shop:app"}, 2, "no module 'shop'"),
        (("consume", "nowhere"), {}, 2, "nowhere"),
        (("consume",), {"AMQPJOBS_CONCURRENCY": "many"}, 2, "AMQPJOBS_CONCURRENCY"),
        (("consume",), {"AMQPJOBS_SECRETS_DIR": "/run/none"}, 2, "AMQPJOBS_SECRETS_DIR"),
        (("consume",), {"AMQPJOBS_URL": "amqp://127.0.0.1:1/"}, 3, "127.0.0.1:1"),
        (("record",), {}, 1, "AMQPJOBS_STORE_URL there, and writable"),
    ):
        done = place(broker_43, **settings).run(*arguments)
        assert done.returncode == status, (arguments, settings, done)
        assert word in done.stderr, (arguments, settings, done)
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert "Traceback" not in done.stdout + done.stderr


def test_a_web_tier_without_a_store_says_so_and_serves(broker_43: VirtualHost, place: Make) -> None:
    """Where nothing can be written there is no SQLite file; enqueueing needs none."""
    here = place(broker_43, AMQPJOBS_WEB_TOKEN="a-token-of-this-test", AMQPJOBS_WEB_PORT="0")
    with here.running() as web:
        web.wait_for("web tier is ready", timeout=60)
        assert "In a container it has to be a volume" in str(web)
        web.signal(signal.SIGTERM)
        assert web.wait() == 0


def test_docker_stop_ends_a_command_at_any_moment(place: Make) -> None:
    """Also before it handles SIGTERM: the kernel would spare process 1."""
    with place(AMQPJOBS_URL="amqp://127.0.0.1:1/").running("broker", "--port", "0") as container:
        assert poll(lambda: len(container.processes()) >= 2, PATIENCE)
        container.signal(signal.SIGTERM)
        assert container.wait(PATIENCE) in (0, 128 + signal.SIGTERM)
