"""The examples, run as their users run them: as programs, on a real RabbitMQ."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from amqpjobs.demo.album import Photograph, Size, add_to_album
from examples.photo_album.photographs import find_photographs
from tests.support.brokers.broker_server import VirtualHost, poll

ROOT = Path(__file__).parents[2]
TOO_LARGE = "seeding_by_Clements_Engelhardt.jpg"
WITH_EXIF = {"Blinds.jpg", "Dune.jpg", "Storm.jpg", "Wood.jpg"}
ORIENTATION, GPS = 0x0112, 0x8825


@pytest.fixture(scope="session")
def photographs() -> dict[str, Path]:
    """The real ones, by name; fetched once for a machine."""
    return {path.name: path for path in find_photographs()}


def start(url: str, *arguments: str, output: int | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env=os.environ | {"AMQPJOBS_URL": url, "NO_COLOR": "1"},
        stdout=output or subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(url: str, *arguments: str) -> tuple[int, str, str]:
    """The exit status, standard output and standard error."""
    with start(url, *arguments) as process:
        try:
            out, err = process.communicate(timeout=110)
        finally:
            process.terminate()  # an album that does not end stops its workers, too
    return process.returncode, out, err


def exif_of(path: Path) -> dict[int, object]:
    with Image.open(path) as image:
        return dict(image.getexif())


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


@pytest.mark.timeout(180)
def test_two_workers_make_the_album_and_the_large_photograph_fails_alone(
    broker: VirtualHost, photographs: dict[str, Path], tmp_path: Path
) -> None:
    """19 of 20 are made, each by one run in one of two workers; one is a dead letter."""
    status, out, err = run(
        broker.url, "examples.photo_album.run", "--json", "--album", str(tmp_path)
    )

    assert status == 0, out + err
    shown = json.loads(out)
    assert all(promise["kept"] for promise in shown["promises"])
    assert shown["statuses"] == [0, 0]
    pictures = {picture["name"]: picture for picture in shown["pictures"]}
    assert set(pictures) == set(photographs)
    assert len(pictures) == 20
    assert {picture["worker"] for picture in pictures.values()} == {1, 2}
    assert {picture["runs"] for picture in pictures.values()} == {1}
    failed = pictures.pop(TOO_LARGE)
    assert "15.9 megapixels, the album takes up to 15" in failed["failure"]
    assert not any(picture["failure"] for picture in pictures.values())

    app = ("--app", "amqpjobs.demo.album:app")
    _, out, _ = run(broker.url, "amqpjobs", "dead", "list", "--each", *app, "--json")
    assert [letter["id"] for letter in json.loads(out)] == [failed["job_id"]]
    _, out, _ = run(broker.url, "amqpjobs", "queues", *app, "--json")
    assert [queue["ready"] for queue in json.loads(out)] == [0, 0, 0]

    assert_made(set(pictures), tmp_path)
    assert {name for name in pictures if exif_of(photographs[name])} == WITH_EXIF


def assert_made(names: set[str], album: Path) -> None:
    """These and no others are there, no temporary files either."""
    for folder, side in (("thumbnails", 256), ("web", 1600)):
        assert {path.name for path in (album / folder).iterdir()} == names
        for name in names:
            assert max(size_of(album / folder / name)) == side
            assert exif_of(album / folder / name) == {}


def test_the_table_names_the_worker_of_each_photograph_and_why_one_failed(
    broker_43: VirtualHost, photographs: dict[str, Path], tmp_path: Path
) -> None:
    """What people read: a line for each photograph, the reason of the dead letter, the promises."""
    folder = tmp_path / "own"
    folder.mkdir()
    for name in ("Blinds.jpg", "Dune.jpg", "Storm.jpg", "Wood.jpg", TOO_LARGE):
        (folder / name).symlink_to(photographs[name])

    status, out, err = run(
        broker_43.url, "examples.photo_album.run", "--photographs", str(folder),
        "--album", str(tmp_path / "album"),
    )  # fmt: skip

    assert status == 0, out + err
    assert re.search(r"^Blinds +[12] +256 x 160 +1600 x 1000 +38 -> 0 +\d+$", out, re.MULTILINE)
    assert re.search(r"^seeding +[12] +- +- +- +\d+$", out, re.MULTILINE)
    assert re.search(rf"^thumbnails.dead: {TOO_LARGE} is too large", out, re.MULTILINE)
    assert len(re.findall(r"^ok ", out, re.MULTILINE)) == 5
    assert "FAILED" not in out


def test_an_album_that_is_not_ready_in_time_is_a_failure(
    broker_43: VirtualHost, photographs: dict[str, Path], tmp_path: Path
) -> None:
    """Exit status 1 and one line that says what is not so."""
    status, out, err = run(
        broker_43.url, "examples.photo_album.run", "--json", "--timeout", "0",
        "--album", str(tmp_path),
    )  # fmt: skip

    assert (status, out) == (1, "")
    assert err == "photo album: not within 0 s: every job is over\n"


def test_an_album_without_rabbitmq_says_so(photographs: dict[str, Path], tmp_path: Path) -> None:
    """Exit status 3, as of the worker that could not connect."""
    status, _, err = run(
        "amqp://127.0.0.1:1/", "examples.photo_album.run", "--album", str(tmp_path)
    )

    assert status == 3
    assert "cannot be reached" in err
    assert "Traceback" not in err


def test_an_album_without_photographs_says_so(tmp_path: Path) -> None:
    """Exit status 2, before anything is started."""
    status, _, err = run(
        "amqp://127.0.0.1:1/", "examples.photo_album.run", "--photographs", str(tmp_path)
    )

    assert status == 2
    assert "no .jpg file in" in err


def test_a_photograph_is_turned_upright_and_keeps_no_secrets(
    photographs: dict[str, Path], tmp_path: Path
) -> None:
    """The camera was held upright, and knew where: the one is applied, the other left out."""
    turned = tmp_path / "turned.jpg"
    with Image.open(photographs["Wood.jpg"]) as image:
        exif = image.getexif()
        exif[ORIENTATION] = 6
        exif.get_ifd(GPS)[1] = "N"
        image.save(turned, exif=exif, comment=b"at home")
    assert {ORIENTATION, GPS} <= set(exif_of(turned))
    photograph = Photograph(path=turned, album=tmp_path / "album")

    sizes = add_to_album(photograph)

    assert sizes.web == Size(width=1200, height=1600)
    assert sizes.thumbnail == Size(width=192, height=256)
    for path in (photograph.web, photograph.thumbnail):
        assert exif_of(path) == {}
        with Image.open(path) as image:
            assert "comment" not in image.info


def test_a_second_run_writes_the_same_again(photographs: dict[str, Path], tmp_path: Path) -> None:
    """A job may run twice: nothing but its two files is there afterwards, and they are the same."""
    photograph = Photograph(path=photographs["Storm.jpg"], album=tmp_path)

    add_to_album(photograph)
    first = {path: path.read_bytes() for path in tmp_path.rglob("*.jpg")}
    add_to_album(photograph)

    assert {path: path.read_bytes() for path in tmp_path.rglob("*.jpg")} == first
    assert set(first) == {photograph.web, photograph.thumbnail}
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 2


def test_one_method_runs_now_and_later(broker: VirtualHost, tmp_path: Path) -> None:
    """Now in the program itself, later in a worker, with the same fields."""
    status, out, err = run(broker.url, "examples.later.later")
    assert status == 0, err
    now, waiting = out.splitlines()
    assert (match := re.fullmatch(r"process (\d+) publishes Picos de Europa, 01 May 2026", now))
    assert re.fullmatch(r"PublishAlbum\.call [0-9a-f-]{36} waits in queue albums", waiting)

    log = tmp_path / "worker.log"
    with (
        log.open("w") as file,
        start(
            broker.url, "amqpjobs", "consume", "albums", "--app", "examples.later.later:app",
            output=file.fileno(),
        ) as worker,
    ):  # fmt: skip
        try:
            assert poll(lambda: '"outcome": "done"' in log.read_text(), 30.0), log.read_text()
        finally:
            worker.terminate()
            worker.communicate(timeout=15)
    assert worker.returncode == 0
    assert worker.pid != int(match[1])
    assert f"process {worker.pid} publishes Picos de Europa, 01 May 2026" in log.read_text()
