"""The photo album from the one image, by the commands of `deploy/compose.yaml`: set up, web
tier, worker, recorder, with the same settings; and its root file system is not written."""

import io
import json
import signal
import socket
import time
import uuid
from pathlib import Path
from typing import Any

import httpx
from PIL import Image as Picture

from amqpjobs.state.store.metadata import HEAD
from tests.support.album import jpeg
from tests.support.brokers.broker_server import VirtualHost, poll
from tests.support.brokers.postgres import Postgres
from tests.support.waiting import PATIENCE
from tests.system.deploy.composed import composed
from tests.system.image.engine import Container, Engine, Image, Place

TOKEN = "a-token-of-this-test"
BUDGET = 8.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def album_at(
    broker: VirtualHost, postgres: Postgres, engine: Engine, image: Image, folder: Path
) -> Place:
    """What `deploy/compose.yaml` gives its services: settings, secret files, a volume."""
    secrets, album = folder / "run/secrets", folder / "album"
    secrets.mkdir(parents=True)
    for name, value in {
        "amqpjobs_url": broker.url,
        "amqpjobs_store_url": postgres.new_database(),
        "amqpjobs_web_token": TOKEN,
    }.items():
        (secrets / name).write_text(value + "\n")
    album.mkdir()
    album.chmod(0o777)
    settings = composed()["services"]["web"]["environment"]
    settings |= {"AMQPJOBS_WEB_PORT": str(free_port()), "AMQPJOBS_RECONNECT_LIMIT": "1"}
    return Place(engine, image, folder, settings, {"/run": folder / "run", "/album": album})


def command_of(service: str) -> list[str]:
    """What Compose runs."""
    command: list[str] = composed()["services"][service]["command"]
    return command


def put_in(http: httpx.Client, content: bytes, name: str) -> str:
    """Upload a photograph; the id of its job."""
    photograph = str(uuid.uuid4())
    taken = http.put(f"/photographs/{photograph}", params={"name": name}, content=content)
    assert taken.status_code == 202, taken.text
    return photograph


def status_of(http: httpx.Client, photograph: str) -> dict[str, Any]:
    """Its job, once it has ended."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    found: dict[str, Any] = {}

    def ended() -> bool:
        found.update(http.get(f"/jobs/{photograph}", headers=headers).json())
        return bool(found.get("ended", found.get("state") in ("done", "failed")))

    assert poll(ended, PATIENCE), found
    return found


def stop(container: Container) -> float:
    """SIGTERM; the seconds until its end."""
    began = time.monotonic()
    container.signal(signal.SIGTERM)
    assert container.wait(BUDGET + 10) == 0, str(container)
    return time.monotonic() - began


def holds_nothing(container: Container) -> None:
    """Not root, no capabilities, and none to be had, for all of its processes."""
    assert container.processes()
    for pid in container.processes():
        status = dict(
            line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        )
        assert status["Uid"].split() == ["10001"] * 4
        assert status["Gid"].split() == ["10001"] * 4
        assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
        assert status["NoNewPrivs"] == "1"


def test_the_album_runs_from_one_image(
    broker: VirtualHost,
    postgres: Postgres,
    engine: Engine,
    images: dict[str, Image],
    tmp_path: Path,
) -> None:
    """Set up, uploaded, resized, shown, stopped; nothing but the volumes was written."""
    album = images["amqpjobs-album"]
    place = album_at(broker, postgres, engine, album, tmp_path)
    before = album.state()

    applied = place.run(*command_of("topology"))
    assert applied.returncode == 0, applied.stderr
    migrated = place.run(*command_of("migrate"))
    assert (migrated.returncode, migrated.stdout) == (
        0,
        f"migrated the store from version none to {HEAD}\n",
    )
    with (
        place.running(*command_of("web")) as web,
        place.running(*command_of("thumbnails")) as worker,
        place.running(*command_of("recorder")) as recorder,
    ):
        worker.wait_for("worker is ready", timeout=60)
        recorder.wait_for("consuming", queue="amqpjobs.recorder", timeout=60)
        web.wait_for("web tier is ready", timeout=60)
        url = f"http://127.0.0.1:{place.settings['AMQPJOBS_WEB_PORT']}"
        with httpx.Client(base_url=url, timeout=PATIENCE) as http:
            assert http.get("/").status_code == 200
            assert http.get("/jobs").status_code == 401
            photograph = put_in(http, jpeg(2400, 1600), "Sunset")
            broken = put_in(http, b"no photograph", "Broken")
            assert status_of(http, photograph)["state"] == "done"
            picture = http.get(f"/photographs/{photograph}/thumbnail")
            assert Picture.open(io.BytesIO(picture.content)).size == (256, 171)
            failed = status_of(http, broken)
            assert failed["state"] == "failed"
            assert "Broken is not a JPEG" in failed["error"]
            assert http.get("/readyz").status_code == 200
        for container in (web, worker, recorder):
            holds_nothing(container)
            assert container.healthy().startswith("healthy: ok,")
        dead = place.run("dead", "list", "thumbnails", "--each", "--json")
        assert [letter["id"] for letter in json.loads(dead.stdout)] == [broken]
        assert all(stop(container) < BUDGET for container in (web, worker, recorder))
    assert web.errors == worker.errors == ""
    made = tmp_path / f"album/thumbnails/{photograph}.jpg"
    assert made.stat().st_uid == 10001
    assert album.state() == before
