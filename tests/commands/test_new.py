"""``amqpjobs new``: what it makes works at once, and nothing that is there is touched."""

import json
import os
import subprocess
import sys
import tomllib
from importlib.metadata import Distribution, version

import pytest
import yaml

from amqpjobs.broker.embedded import Broker
from amqpjobs.cli import new
from amqpjobs.cli.new import package_of, write_project
from amqpjobs.errors import ConfigurationError
from tests.support.programs import ROOT, command, consuming, environment

ENV = environment("amqp://nowhere", ROOT)
FILES = [
    ".dockerignore", ".gitignore", "Dockerfile", "README.md", "compose.yaml",
    "paper_mill/__init__.py", "paper_mill/__main__.py", "paper_mill/jobs.py", "pyproject.toml",
    "tests/test_jobs.py",
]  # fmt: skip
WHEEL = f"wheels/amqpjobs-{version('amqpjobs')}-py3-none-any.whl"
"""Beside these, since the tests run in a checkout."""


@pytest.fixture
def project(tmp_path):
    """A project that was made here."""
    done = command("new", "paper-mill", "--json", env=ENV, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert made == {"folder": str(tmp_path / "paper-mill"), "files": [*FILES, WHEEL]}
    return tmp_path / "paper-mill"


def run(project, *arguments, env):
    """A program of the project, in its folder."""
    return subprocess.run(
        [sys.executable, *arguments], cwd=project, env=env, capture_output=True, text=True,
        timeout=50, check=False,
    )  # fmt: skip


def test_its_test_passes_in_a_fresh_folder(project):
    """With nothing but what it asks for: no broker, no variable."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AMQP", "PYTEST"))}
    done = run(project, "-m", "pytest", "-q", "-W", "error", env=kept | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_its_app_works(project, tmp_path):
    """As its README says: a broker, a worker, a job."""
    with Broker.in_thread() as broker:
        env = environment(broker.url, tmp_path, AMQPJOBS_APP="paper_mill.jobs:app")
        done = run(project, "-m", "paper_mill", "Ada", "Bea", env=env)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("waits in greetings") == 2
        with consuming(env=env, cwd=project) as worker:
            worker.wait_for("job done", times=2)


def test_its_files_are_what_their_programs_read(project):
    """Names are filled in everywhere, and no sign of the template is left."""
    for name in FILES:
        text = (project / name).read_text()
        assert "$" not in text
        assert text.endswith("\n")
    settings = tomllib.loads((project / "pyproject.toml").read_text())
    assert settings["project"]["name"] == "paper-mill"
    assert settings["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["paper_mill"]
    compose = yaml.safe_load((project / "compose.yaml").read_text())
    login = compose["services"]["rabbitmq"]["environment"]
    url = compose["services"]["worker"]["environment"]["AMQPJOBS_URL"]
    user, password = login["RABBITMQ_DEFAULT_USER"], login["RABBITMQ_DEFAULT_PASS"]
    assert url == f"amqp://{user}:{password}@rabbitmq:5672/"
    assert "AMQPJOBS_APP=paper_mill.jobs:app" in (project / "Dockerfile").read_text()
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--isolated", "--line-length=99", "--select=E,I"],
        cwd=project, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_a_project_of_an_amqpjobs_from_a_checkout_takes_it_along(project):
    """The commands of its README and its Dockerfile install that one, and so does uv."""
    assert f"pip install {WHEEL} --editable . pytest" in (project / "README.md").read_text()
    dockerfile = (project / "Dockerfile").read_text()
    assert f"COPY wheels ./wheels\nRUN pip install --no-cache-dir {WHEEL} .\n" in dockerfile
    settings = tomllib.loads((project / "pyproject.toml").read_text())
    assert settings["tool"]["uv"]["sources"] == {"amqpjobs": {"path": WHEEL}}
    assert settings["project"]["dependencies"] == [f"amqpjobs[uvloop]>={version('amqpjobs')}"]


def test_a_project_of_an_amqpjobs_from_an_index_names_it(tmp_path, monkeypatch):
    """And has no word on wheels."""
    (tmp_path / "METADATA").write_text("Name: amqpjobs\nVersion: 7.1\n")
    monkeypatch.setattr(new, "installed", lambda: Distribution.at(tmp_path))
    folder = tmp_path / "paper-mill"
    assert write_project(folder, "paper-mill", "paper_mill") == FILES
    for name in FILES:
        text = (folder / name).read_text()
        assert "$" not in text
        assert "whl" not in text
        assert "wheels" not in text
    settings = tomllib.loads((folder / "pyproject.toml").read_text())
    assert settings["project"]["dependencies"] == ["amqpjobs[uvloop]>=7.1"]
    assert "uv" not in settings["tool"]
    assert "\npip install --editable . pytest" in (folder / "README.md").read_text()
    assert "\nRUN pip install --no-cache-dir .\n" in (folder / "Dockerfile").read_text()


def test_what_is_there_is_not_touched(project):
    """Not even if the folder is empty: it may be somebody's."""
    before = {path: path.stat().st_mtime_ns for path in project.rglob("*")}
    (project.parent / "empty").mkdir()
    for name in ("paper-mill", "empty"):
        done = command("new", name, env=ENV, cwd=project.parent)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == (
            f"amqpjobs: {name!r} is there already, and nothing in it is touched: take another "
            "name\n"
        )
    assert {path: path.stat().st_mtime_ns for path in project.rglob("*")} == before


@pytest.mark.parametrize("name", ["photo-album", "shop", "shop_2", "a1"])
def test_a_name_becomes_a_package(name):
    """That Python can import."""
    assert package_of(name) == name.replace("-", "_")


@pytest.mark.parametrize(
    "name",
    [
        "", "Shop", "2shop", "-shop", "shop-", "a--b", "../shop", "a/b", "shop.py", "schön", "a b",
        "class", "json", "amqpjobs", "tests", "pytest", "a" * 61, "$package",
    ],
)  # fmt: skip
def test_a_name_that_can_be_no_package_is_refused(name):
    """Before anything is written."""
    with pytest.raises(ConfigurationError, match="is no name for a project"):
        package_of(name)


def test_it_says_what_to_do_next(tmp_path):
    """The commands that follow."""
    done = command("new", "shop", env=ENV, cwd=tmp_path)
    assert done.returncode == 0
    for line in ("cd shop", "python -m pytest", "amqpjobs consume --app shop.jobs:app"):
        assert f"  {line}" in done.stdout
