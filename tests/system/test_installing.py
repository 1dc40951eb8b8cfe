"""What is said to be installed installs, in a fresh environment: from a checkout, wheel, index."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.programs import KEPT, ROOT
from tests.support.pypi import uv

PINS = ROOT / "deploy/requirements.txt"
"""So that a release of somebody else fails nothing here."""

APP = "from amqpjobs import App\napp = App('shop')\n@app.job(queue='a')\ndef f() -> None: ...\n"
RENDER = ("deploy", "render", "--app", "shop:app", "--image", "registry.example/shop:1.0")


class Place:
    """An environment that somebody has activated, and a folder."""

    def __init__(self, folder: Path, *, pip: bool = False) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        home = folder / ".venv"
        tools = Path(uv()).parent
        self._env = {k: v for k, v in KEPT.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")} | {
            "VIRTUAL_ENV": str(home),
            "PATH": f"{home / 'bin'}:{tools}:{os.environ['PATH']}",
            "UV_CONSTRAINT": str(PINS),
        }
        self.run(uv(), "venv", *(["--seed"] if pip else []), "--python", sys.executable, str(home))

    def run(self, *command: str, status: int = 0) -> str:
        """Run a command to its end; what it wrote."""
        done = subprocess.run(
            command, cwd=self.folder, env=self._env, capture_output=True, text=True, check=False
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As a release is built."""
    folder = tmp_path_factory.mktemp("wheels")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    return next(folder.glob("*.whl"))


def origin(kind: str, wheel: Path) -> list[str]:
    """What is installed."""
    return {
        "checkout": ["--editable", str(ROOT)],
        "wheel": [str(wheel)],
        "index": ["--find-links", str(wheel.parent), "amqpjobs"],
    }[kind]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", ["checkout", "wheel", "index"])
def test_an_extra_and_a_project_install(kind: str, wheel: Path, tmp_path: Path) -> None:
    """By the command in the message on the extra, and by those in the README of the project."""
    place = Place(tmp_path / "first", pip=kind == "wheel")
    program = "pip" if kind == "wheel" else "uv pip"  # what made this environment
    place.run(*shlex.split(program), "install", *origin(kind, wheel))
    (place.folder / "shop.py").write_text(APP)
    said = place.run("amqpjobs", *RENDER, status=2)
    found = re.search(r"not installed: (.*); --json", said)
    assert found, said
    assert found[1] == f"{program} install 'amqpjobs[deploy]'"
    place.run(*shlex.split(found[1]))
    assert "kustomization.yaml" in place.run("amqpjobs", *RENDER)
    place.run("amqpjobs", "new", "paper-mill")
    project = Place(place.folder / "paper-mill")
    readme = (project.folder / "README.md").read_text()
    lines = [line.split("#")[0] for line in readme.splitlines() if line.startswith("pip install")]
    assert len(lines) == 1
    fetched = ["--find-links", str(wheel.parent)] if kind == "index" else []
    project.run("uv", *shlex.split(lines[0]), *fetched)
    assert "1 passed" in project.run("python", "-m", "pytest", "-q")
    project.run("python", "-c", "import uvloop")
    if kind != "index":
        project.run("uv", "sync", "--quiet")
        assert "1 passed" in project.run("uv", "run", "--group", "test", "python", "-m", "pytest")
