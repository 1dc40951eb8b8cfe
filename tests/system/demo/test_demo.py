"""``amqpjobs demo``: the show as a person starts it, and as CI does."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from playwright.async_api import expect

from amqpjobs.demo.photographs import OURS, PAINTED, TOO_LARGE, paint_photographs, photographs_here
from amqpjobs.demo.processes import Process, ShowFailed, free_port
from tests.support.album import SMALL
from tests.support.browser import browsing
from tests.support.programs import PROGRAM, ROOT, command, environment
from tests.support.terminal import Terminal
from tests.support.waiting import until

START = 90.0
"""Seconds: three processes that import much, on a machine that is busy."""


def variables(folder: Path) -> dict[str, str]:
    """A temporary folder of its own, which must be empty afterwards."""
    folder.mkdir(exist_ok=True)
    env = environment("amqp://production.invalid", folder)
    return {k: v for k, v in env.items() if k != "AMQPJOBS_APP"} | {"TMPDIR": str(folder)}


def processes_of(folder: Path) -> list[str]:
    """Whatever still runs with this temporary folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"TMPDIR={folder}".encode() in entry.read_bytes().split(b"\0"):
                found.append(entry.parent.name)
        except OSError:
            continue  # it has ended meanwhile
    return found


@pytest.mark.timeout(200)
def test_once_everything_is_made_and_one_fails_alone(tmp_path: Path) -> None:
    """Both workers took part, and nothing is left."""
    done = command(
        "demo", "--once", "--json", "--port", "0", env=variables(tmp_path / "t"), cwd=tmp_path,
        timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    shown = json.loads(done.stdout)
    photographs = {each["name"]: each for each in shown["photographs"]}
    failed = photographs.pop(f"{TOO_LARGE}.jpg")
    assert failed["state"] == "failed"
    assert "16.1 megapixels, the album takes up to 15" in failed["error"]
    ours = {path.name for path in OURS.glob("*.jpg")}
    assert set(photographs) == ours | {f"{name}.jpg" for name in PAINTED}
    assert {each["state"] for each in photographs.values()} == {"done"}
    assert {each["worker"] for each in photographs.values()} == {1, 2}
    assert list((tmp_path / "t").iterdir()) == []
    assert processes_of(tmp_path / "t") == []
    assert list(tmp_path.iterdir()) == [tmp_path / "t"]


@pytest.mark.timeout(240)
async def test_on_a_terminal_it_goes_on_until_ctrl_c(tmp_path: Path) -> None:
    """Bars there, and the page shows the same; then it says how to do it on RabbitMQ."""
    folder = tmp_path / "t"
    terminal = Terminal([*PROGRAM, "demo", "--port", "0"], variables(folder), tmp_path)
    try:
        seen = terminal.wait_for("Ctrl-C ends the show", START)
        found = re.search(r"http://127\.0\.0\.1:\d+/", seen)
        assert found, seen
        terminal.wait_for("worker 2", START)
        async with browsing() as browser:
            page = await browser.new_page()
            problems: list[str] = []
            page.on("pageerror", lambda error: problems.append(str(error)))
            await page.goto(found[0])
            tile = page.locator(".tile", has=page.get_by_text("Sunset.jpg", exact=True)).first
            await expect(tile.locator("img")).to_be_visible()
            assert problems == []
        terminal.program.send_signal(signal.SIGINT)
        assert "The same on RabbitMQ" in terminal.wait_for("amqpjobs new NAME", START)
        assert terminal.program.wait(30) == 0
    finally:
        terminal.close()
    assert await until(lambda: not processes_of(folder), "its processes have ended")
    assert list(folder.iterdir()) == []


@pytest.mark.timeout(120)
def test_who_is_killed_leaves_no_processes_behind(tmp_path: Path) -> None:
    """With photographs of your own; the kernel tells the others."""
    own = tmp_path / "own"
    own.mkdir()
    (own / "Holiday.jpg").write_bytes(SMALL)
    folder = tmp_path / "t"
    with subprocess.Popen(
        [*PROGRAM, "demo", "--port", "0", "--seconds", "600", "--photographs", str(own)],
        env=variables(folder), cwd=tmp_path, text=True, stdout=subprocess.PIPE,
    ) as program:  # fmt: skip
        assert program.stdout is not None
        lines = iter(program.stdout.readline, "")
        assert any(line.startswith("Holiday.jpg") and "done" in line for line in lines)
        assert len(processes_of(folder)) == 4
        program.kill()
    deadline = time.monotonic() + 30
    while processes_of(folder):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    """One line; usage."""
    blocked = "import sys; sys.modules['PIL'] = None; from amqpjobs.cli.main import main; main()"
    done = command(
        "demo", program=(sys.executable, "-c", blocked), env=variables(tmp_path / "t"), cwd=ROOT
    )
    assert (done.returncode, done.stdout) == (2, "")
    words = "amqpjobs: the demo needs more than is installed ('PIL' is not): "
    assert re.fullmatch(re.escape(words) + r".*pip install .*'amqpjobs\[demo\]'\n", done.stderr)


def test_a_folder_without_photographs_is_told(tmp_path: Path) -> None:
    """Before anything is started."""
    done = command("demo", "--photographs", str(tmp_path), env=variables(tmp_path / "t"), cwd=ROOT)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"amqpjobs: --photographs: no .jpg file in {tmp_path}\n"


async def test_a_process_that_cannot_start_ends_the_show(tmp_path: Path) -> None:
    """With its last words."""
    consume = ("consume", "nowhere", "--app", "amqpjobs.demo.album:app")
    process = Process("worker 1", consume, tmp_path / "log", variables(tmp_path), "worker is ready")
    await process.start()
    with pytest.raises(ShowFailed, match=r"worker 1 has ended: amqpjobs: .*'nowhere'"):
        await process.ready()
    await process.stop()


def test_a_page_gets_the_port_that_is_free() -> None:
    """The one that was asked for, or any other."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port: int = taken.getsockname()[1]
        assert free_port(port) not in (port, 0)
    assert free_port(port) == port


def test_photographs_that_are_painted_are_photographs(tmp_path: Path) -> None:
    """JPEG, with EXIF, all different; one is too large."""
    painted = paint_photographs(tmp_path)
    first = [next(iter(painted)) for _ in range(4)]
    assert [path.stem for path in first] == [*PAINTED[:3], TOO_LARGE]
    for path in first:
        with Image.open(path) as image:
            assert image.format == "JPEG"
            assert image.getexif()[0x0110] == path.stem
    assert len({path.read_bytes() for path in first}) == 4
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in first}


def test_photographs_are_looked_for_where_one_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folders and files; nothing said, nothing found."""
    for name in ("b.jpg", "A.jpeg", "c.png"):
        (tmp_path / name).touch()
    monkeypatch.setenv("ALBUM_PHOTOGRAPHS", f"{tmp_path}{os.pathsep}{tmp_path / 'c.png'}")
    assert [path.name for path in photographs_here()] == ["A.jpeg", "b.jpg", "c.png"]
    monkeypatch.delenv("ALBUM_PHOTOGRAPHS")
    assert photographs_here() == []
