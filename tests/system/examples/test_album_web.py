"""The HTTP side of the album's web tier: what it takes in, and what it refuses."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from tests.support.album import SMALL, Tier
from tests.support.brokers.broker_server import VirtualHost, poll
from tests.support.programs import ROOT


@pytest.fixture
def tier(broker_43: VirtualHost, tmp_path: Path) -> Iterator[Tier]:
    tier = Tier(broker_43, tmp_path)
    with tier.serving():
        yield tier


@pytest.fixture
def client(tier: Tier) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=tier.url, timeout=30) as client:
        yield client


def incoming(tier: Tier) -> list[str]:
    folder = tier.album / "incoming"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_photograph_may_be_sent_twice_and_is_one(client: httpx.Client, tier: Tier) -> None:
    """An answer that was lost is no second photograph: both have the same job id."""
    photograph = str(uuid4())
    for _ in range(2):
        answer = client.put(f"/photographs/{photograph}", params={"name": "a.jpg"}, content=SMALL)
        assert (answer.status_code, answer.json()) == (202, {"id": photograph})
    assert incoming(tier) == [photograph]


def test_what_is_too_large_is_refused_and_leaves_nothing(client: httpx.Client, tier: Tier) -> None:
    """Told by its length before it is read, or while it is read if it tells none."""

    def chunks() -> Iterator[bytes]:
        for _ in range(26):
            yield bytes(1_000_000)

    for content in (bytes(25_000_001), chunks()):
        try:
            answer = client.put(f"/photographs/{uuid4()}?name=a.jpg", content=content)
        except httpx.WriteError:
            continue  # the server has answered and closed, while we were still sending
        assert answer.status_code == 413
        assert answer.json() == {"detail": "a photograph may have up to 25 MB"}
    assert incoming(tier) == []


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/photographs/..%2F..%2Fx?name=a", 404),
        ("/photographs/x?name=a", 422),
        (f"/photographs/{uuid4()}", 422),
        (f"/photographs/{uuid4()}?name={'a' * 256}", 422),
        (f"/photographs/{uuid4()}/from/..%2F..%2F..%2Fetc%2Fpasswd", 404),
        (f"/photographs/{uuid4()}/from/Nowhere.jpg", 404),
    ],
)
def test_ids_are_uuids_and_names_are_looked_up(
    path: str, status: int, client: httpx.Client, tier: Tier
) -> None:
    """Nothing that a stranger writes becomes a path."""
    assert client.put(path, content=SMALL).status_code == status
    assert incoming(tier) == []


def test_an_album_that_is_full_says_so(client: httpx.Client, tier: Tier) -> None:
    """Before it takes more of the disk."""
    folder = tier.album / "incoming"
    folder.mkdir(parents=True)
    for n in range(1000):
        (folder / str(n)).touch()
    answer = client.put(f"/photographs/{uuid4()}?name=a.jpg", content=SMALL)
    assert answer.status_code == 507
    assert "full" in answer.json()["detail"]


def test_pictures_that_are_not_made_are_not_found(client: httpx.Client) -> None:
    """Nor are sizes that there are not, originals among them."""
    photograph = uuid4()
    client.put(f"/photographs/{photograph}?name=a.jpg", content=SMALL)
    for size in ("thumbnail", "web", "incoming", "..%2Fincoming"):
        assert client.get(f"/photographs/{photograph}/{size}").status_code == 404


def test_the_page_runs_nobody_elses_code(client: httpx.Client) -> None:
    """Its policy says so to the browser, and it names nothing beyond this server."""
    answer = client.get("/")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    for path in ("/", "/page/album.js", "/page/album.css", "/page/icon.svg"):
        text = client.get(path).text
        assert "https://" not in text
        assert "innerHTML" not in text


def test_pages_of_the_guide_are_served_and_nothing_else(client: httpx.Client) -> None:
    """By name, with or without the ending of the file."""
    for name in ("first-job", "first-job.md", "index"):
        answer = client.get(f"/guide/{name}")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/html")
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "<h1>" in answer.text
        assert "<!-- run" not in answer.text
    for name in ("nothing", "..%2Ferrors.py", "%2e%2e", "first-job.md.md"):
        assert client.get(f"/guide/{name}").status_code == 404


def test_what_others_put_in_is_nobodys_business(client: httpx.Client) -> None:
    """Unless it is a show, where all pages are one person's."""
    put = client.put(f"/photographs/{uuid4()}?name=mine.jpg", content=SMALL)
    assert put.status_code == 202
    assert client.get("/photographs").json() == {"shared": False, "photographs": []}


def test_those_that_are_here_have_previews(client: httpx.Client) -> None:
    """Small ones."""
    listed = client.get("/photographs/here").json()
    assert [each["name"] for each in listed] == ["Dunes.jpg", "Garden.jpg"]
    answer = client.get("/photographs/here/Dunes.jpg")
    assert answer.headers["content-type"] == "image/jpeg"
    assert len(answer.content) < 20_000
    assert client.get("/photographs/here/..%2Fhere%2FDunes.jpg").status_code == 404


def test_one_command_serves_the_page_with_a_worker(broker_43: VirtualHost, tmp_path: Path) -> None:
    """Both are there until it is told to stop, and then neither."""
    tier = Tier(broker_43, tmp_path)
    with (
        subprocess.Popen(
            [sys.executable, "-m", "examples.photo_album.serve", "--port", str(tier.port)],
            cwd=ROOT, env=tier.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        ) as program,
        httpx.Client(base_url=tier.url, timeout=30) as client,
    ):  # fmt: skip
        try:
            photograph = str(uuid4())
            assert poll(lambda: answers(client), 30)
            client.put(f"/photographs/{photograph}?name=a.jpg", content=SMALL)
            picture = f"/photographs/{photograph}/thumbnail"
            assert poll(lambda: client.get(picture).status_code == 200, 30)
        finally:
            program.terminate()
            output, _ = program.communicate(timeout=30)
    assert program.returncode == 0, output
    worker = (tier.album / "worker-1.log").read_text().splitlines()[-1]
    assert json.loads(worker)["event"] == "stopped"


def answers(client: httpx.Client) -> bool:
    """Whether the server is there."""
    try:
        return client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False
