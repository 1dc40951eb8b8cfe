"""`deploy/compose.yaml`: Compose reads it, its parts fit each other, and its commands are ours."""

import json
import re
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from amqpjobs.demo.album import app
from amqpjobs.settings import Settings
from tests.support.programs import ROOT, command, environment
from tests.system.deploy.composed import CLIENT, FILE, OURS, by_the_client, composed, seconds


def problems(file: dict) -> list[str]:
    """What does not fit together; Compose looks at some of it, and only where it is there."""
    return [
        f"{name}: {problem}"
        for name, service in file["services"].items()
        for problem in (*missing(service, file), *waiting_in_vain(service, file["services"]))
    ]


def missing(service: dict, file: dict) -> Iterator[str]:
    """What it names, and nobody defines."""
    for kind in ("secrets", "configs", "volumes"):
        for each in service.get(kind, []):
            said = each if isinstance(each, str) else each["source"]
            if (source := said.split(":")[0]) not in file[kind]:
                yield f"there is no {kind[:-1]} {source}"


def waiting_in_vain(service: dict, services: dict) -> Iterator[str]:
    """What it waits for, and will not come."""
    for other, how in service.get("depends_on", {}).items():
        if other not in services:
            yield f"there is no service {other}"
        elif how["condition"] == "service_healthy":
            if "test" not in services[other].get("healthcheck", {}):
                yield f"{other} says nothing of its health"
        elif services[other]["restart"] != "no":
            yield f"{other} is restarted, and never completed"


def test_its_parts_fit_each_other():
    """Every secret, volume and service that one names is there."""
    assert problems(composed()) == []


@pytest.mark.parametrize(
    ("there", "instead", "what"),
    [
        ("condition: service_healthy }", "condition: service_wealthy }", "client: condition"),
        ("amqpjobs_web_token]", "amqpjobs_web_tocken]", "there is no secret amqpjobs_web_tocken"),
        ('restart: "no"', "restart: always", "is restarted, and never completed"),
        ("postgres: { condition", "database: { condition", "there is no service database"),
        ('["photographs:/album"]', '["pictures:/album"]', "there is no volume pictures"),
        ("stop_grace_period: 15s", "stop_grace_period: soon", "client: soon"),
        ("read_only: true", "readonly: true", "client: readonly"),
    ],
)
def test_a_mistake_in_it_is_found(there, instead, what, tmp_path):
    """Without that, the test above and the client's below would prove nothing."""
    text = FILE.read_text()
    assert there in text
    broken = tmp_path / "compose.yaml"
    broken.write_text(text.replace(there, instead))
    if what.startswith("client: "):
        done = by_the_client(broken)
        assert done.returncode != 0
        assert what.removeprefix("client: ") in done.stderr
    else:
        assert any(what in each for each in problems(composed(broken.read_text())))


def test_compose_itself_reads_it():
    """Debian's client, which asks no engine; `deploy/ci/containers.sh` fetches it."""
    assert CLIENT.exists(), "run deploy/ci/containers.sh as root"
    done = by_the_client(FILE, "--profile", "telemetry")
    assert done.returncode == 0, done.stderr
    read = json.loads(done.stdout)
    assert set(OURS) < set(read["services"])
    assert read["services"]["web"]["depends_on"]["migrate"]["condition"] == (
        "service_completed_successfully"
    )
    assert "collector" not in json.loads(by_the_client().stdout)["services"]


@pytest.mark.parametrize("name", OURS)
def test_our_services_are_held_as_the_image_promises(name):
    """A file system that is not written, no capabilities, and time to stop."""
    service = composed()["services"][name]
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    budget = float(service["environment"]["AMQPJOBS_SHUTDOWN_TIMEOUT"])
    assert seconds(service["stop_grace_period"]) >= budget + 5
    assert budget == Settings.model_fields["shutdown_timeout"].default


@pytest.mark.parametrize("name", OURS)
def test_our_commands_are_there(name):
    """With the options that are given."""
    words = composed()["services"][name]["command"]
    verbs = words[: 2 if words[0] == "topology" else 1]
    done = command(*verbs, "--help", env=environment("amqp://nowhere", ROOT))
    assert done.returncode == 0, done.stderr
    for option in (word for word in words if word.startswith("--")):
        assert option in done.stdout


def test_each_queue_has_a_worker():
    """And only queues of the app are consumed."""
    commands = [composed()["services"][name]["command"] for name in OURS]
    consumed = [words[1] for words in commands if words[0] == "consume"]
    assert sorted(consumed) == sorted({job.queue.name for job in app.jobs.values()})


def test_no_password_is_a_variable():
    """`docker inspect` shows variables to everybody who may ask the engine."""
    for name, service in composed()["services"].items():
        for variable, value in service.get("environment", {}).items():
            assert not re.search("PASS|SECRET|TOKEN|_URL", variable) or variable.endswith(
                ("_FILE", "_DIR")
            ), f"{name}: {variable}"
            assert "://" not in str(value)


def test_its_secrets_are_made_once_and_fit_each_other(tmp_path):
    """Made again they stay, since a database knows its password from its first start on."""
    folder = tmp_path / "secrets"

    def make() -> dict[str, str]:
        subprocess.run([ROOT / "deploy/compose-secrets", folder], check=True, capture_output=True)
        return {path.name: path.read_text().strip() for path in folder.iterdir()}

    made = make()
    assert make() == made
    file = composed()
    assert {Path(each["file"]).name for each in file["secrets"].values()} == set(made)
    assert set(file["secrets"]) == set(made)
    login = dict(line.split(" = ") for line in made["rabbitmq_login"].splitlines())
    broker = urlsplit(made["amqpjobs_url"])
    assert (broker.username, broker.password) == (login["default_user"], login["default_pass"])
    assert broker.hostname in file["services"]
    store = urlsplit(made["amqpjobs_store_url"])
    settings = file["services"]["postgres"]["environment"]
    assert store.username == settings["POSTGRES_USER"]
    assert store.password == made["postgres_password"]
    assert store.path == f"/{settings['POSTGRES_DB']}"
    assert store.hostname in file["services"]
    assert len({login["default_pass"], made["postgres_password"], made["amqpjobs_web_token"]}) == 3
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert "deploy/secrets/" in (ROOT / ".gitignore").read_text()


def test_the_collector_knows_what_its_pipelines_name():
    """And listens where workers are told to send."""
    read = yaml.safe_load((ROOT / "deploy/collector.yaml").read_text())
    for pipeline in read["service"]["pipelines"].values():
        for kind in ("receivers", "processors", "exporters"):
            assert set(pipeline[kind]) <= set(read[kind])
        assert pipeline["processors"][0] == "memory_limiter"
    port = read["receivers"]["otlp"]["protocols"]["http"]["endpoint"].rpartition(":")[2]
    assert f"http://collector:{port}" in FILE.read_text()
    served = read["exporters"]["prometheus"]["endpoint"].rpartition(":")[2]
    assert any(each.endswith(f":{served}") for each in composed()["services"]["collector"]["ports"])
