"""Who may do what, as values: patterns that mean what they say, and the file that is shipped."""

import json
import re
from pathlib import Path

import pytest

from amqpjobs import App, Queue
from amqpjobs.jobs.queue.permissions import definitions_of, permissions_of
from tests.support.programs import KEPT, ROOT, command

SHIPPED = ROOT / "deploy/rabbitmq/definitions.json"

QUEUES = (Queue("work"), Queue("a.b", priorities={"high": 2, "low": 1}), Queue("c+d (e)|f"))


def patterns(role: str) -> dict[str, str]:
    found = next(p for p in permissions_of(QUEUES, "shop") if p.role == role)
    return {"configure": found.configure, "write": found.write, "read": found.read}


def test_the_definitions_that_are_shipped_are_those_of_the_album() -> None:
    """`amqpjobs topology users` writes them; nobody edits them by hand."""
    arguments = ("topology", "users", "--app", "amqpjobs.demo.album:app", "--json")
    done = command(*arguments, env=KEPT | {"PYTHONPATH": str(ROOT)})
    assert (done.returncode, done.stderr) == (0, "")
    assert SHIPPED.read_text() == done.stdout


def test_nobody_in_them_has_a_password_and_nobody_is_an_administrator() -> None:
    """An empty hash is no password's."""
    users = json.loads(SHIPPED.read_text())["users"]
    assert len(users) == 3
    for user in users:
        assert user["password_hash"] == ""
        assert "password" not in user
        assert user["tags"] in ("", "management")


@pytest.mark.parametrize("role", ["deploy", "worker", "publisher"])
@pytest.mark.parametrize("permission", ["configure", "write", "read"])
def test_every_pattern_is_anchored(role: str, permission: str) -> None:
    """`work` must not allow `homework`, nor `workers`, nor anything else."""
    pattern = patterns(role)[permission]
    assert pattern.startswith("^(")
    assert pattern.endswith(")$")
    for name in ("homework", "workers", "axb", "cd (e)", "f", "xamqpjobs.events", "amq.topic", ""):
        assert not re.search(pattern, name), name


@pytest.mark.parametrize("name", ["work", "a.b", "a.b.high", "c+d (e)|f"])
def test_names_are_meant_as_they_are(name: str) -> None:
    """Dots, pluses and bars in names are no pattern."""
    assert re.search(patterns("worker")["read"], name)
    assert re.search(patterns("deploy")["configure"], f"{name.removesuffix('.high')}.dead")
    assert not re.search(patterns("worker")["configure"], name)
    assert not re.search(patterns("publisher")["read"], name)


def test_a_worker_reads_no_dead_letters() -> None:
    """They are for people."""
    assert not re.search(patterns("worker")["read"], "work.dead")
    assert re.search(patterns("worker")["read"], "work.parked")
    assert re.search(patterns("deploy")["read"], "work.dead")


@pytest.mark.parametrize("role", ["worker", "publisher"])
def test_an_app_with_schedules_may_have_the_queue_of_its_ticker(role: str) -> None:
    """Those that do the housekeeping; an app without schedules may not."""
    name = "amqpjobs.ticker.my.shop"
    found = permissions_of(QUEUES, "shop", scheduled="my.shop")
    configure = next(p for p in found if p.role == role).configure
    assert re.search(configure, name)
    assert not re.search(configure, "amqpjobs.ticker.my-shop")
    assert not re.search(patterns(role)["configure"], name)


def test_without_users_the_definitions_take_nobodys_password_away() -> None:
    """RabbitMQ takes an imported user as it is in the file."""
    found = permissions_of(QUEUES, "shop")
    assert [u["name"] for u in definitions_of(found, "shop")["users"]] == [
        "shop-deploy", "shop-worker", "shop-publisher",
    ]  # fmt: skip
    without = definitions_of(found, "shop", users=False)
    assert set(without) == {"vhosts", "permissions"}
    assert {p["vhost"] for p in without["permissions"]} == {"shop"}


def test_the_command_shows_them_for_people_and_for_programs(tmp_path: Path) -> None:
    """In the virtual host that is asked for, whose name the users have, too."""
    env = KEPT | {"PYTHONPATH": str(ROOT), "AMQPJOBS_APP": "tests.support.jobs:app"}
    shown = command("topology", "users", "--vhost", "staging", env=env)
    assert shown.returncode == 0, shown
    assert "staging-worker" in shown.stdout
    assert r"lanes\.high" in shown.stdout
    given = command("topology", "users", "--json", "--permissions", "--vhost", "/", env=env)
    document = json.loads(given.stdout)
    assert "users" not in document
    assert [(p["vhost"], p["user"]) for p in document["permissions"]] == [
        ("/", "jobs-deploy"), ("/", "jobs-worker"), ("/", "jobs-publisher"),
    ]  # fmt: skip


def test_an_app_without_queues_has_users_all_the_same() -> None:
    """One that only asks services of others."""
    for each in permissions_of(App("asker").queues.values(), "asker"):
        for pattern in (each.configure, each.write, each.read):
            re.compile(pattern)
            assert not re.search(pattern, "work")
