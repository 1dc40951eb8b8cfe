"""What the image says of itself, and what is in it and what is not."""

import json
import re
import stat
import struct
import tomllib
from pathlib import Path

import pytest

from tests.support.programs import ROOT
from tests.system.image.engine import Image


def normal(name: str) -> str:
    """A distribution's name as indexes write it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned() -> dict[str, str]:
    """What `deploy/requirements.txt` names, for Linux."""
    lines = (ROOT / "deploy/requirements.txt").read_text().splitlines()
    found = [re.match(r"([A-Za-z0-9._-]+)==(\S+)(.*)", line) for line in lines]
    return {normal(one[1]): one[2] for one in found if one and "win32" not in one[3]}


def installed(image: Image) -> dict[str, str]:
    """The distributions in the virtual environment."""
    found = {}
    for metadata in image.venv.glob("lib/python3*/site-packages/*.dist-info/METADATA"):
        head = metadata.read_text().partition("\n\n")[0]
        said = dict(re.findall(r"^(Name|Version): (.*)$", head, re.M))
        found[normal(said["Name"])] = said["Version"]
    return found


def test_it_is_run_as_its_users_expect(image: Image) -> None:
    """`docker run IMAGE` is the web tier, `docker run IMAGE consume Q` a worker, and so on."""
    config = image.config
    assert config["Entrypoint"] == ["amqpjobs"]
    assert config["Cmd"] == ["web"]
    assert config["User"] == "10001:10001"
    assert config["WorkingDir"] == "/app"
    assert config["ExposedPorts"] == {"8000/tcp": {}}
    assert config["Healthcheck"]["Test"] == ["CMD", "amqpjobs", "health"]
    assert config.get("StopSignal", "SIGTERM") == "SIGTERM"
    # What a secret file may say must not be said here, since a variable goes before it.
    assert {name for name in image.environment if name.startswith("AMQPJOBS")} == {
        "AMQPJOBS_WEB_HOST",
        "AMQPJOBS_HEARTBEAT_FILE",
    }


def test_its_labels_say_what_it_is(image: Image) -> None:
    """In the words of OCI."""
    labels = {
        name.removeprefix("org.opencontainers.image."): value
        for name, value in image.config["Labels"].items()
        if name.startswith("org.opencontainers.image.")
    }
    assert labels["title"] == "amqpjobs"
    assert labels["licenses"] == "MIT"
    assert labels["version"] == installed(image)["amqpjobs"]
    assert re.fullmatch(r"[0-9a-f]{40}|unknown", labels["revision"])
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", labels["created"])


def test_what_is_installed_is_what_is_pinned(image: Image) -> None:
    """And amqpjobs itself; nothing that builds, and nothing of the tests."""
    found = installed(image)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert found.pop("amqpjobs") == project["version"]
    assert found == pinned()


def test_the_bill_of_materials_lists_what_is_installed(image: Image) -> None:
    """In CycloneDX, each with its version."""
    bill = json.loads((image.venv / "sbom.cdx.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    listed = {normal(each["name"]): each["version"] for each in bill["components"]}
    root = bill["metadata"]["component"]
    assert root["name"] == "amqpjobs"
    assert listed | {"amqpjobs": root["version"]} == installed(image)
    assert all(each["purl"].startswith("pkg:pypi/") for each in bill["components"])


def compiled(source: Path) -> Path | None:
    """Its bytecode."""
    return next(iter((source.parent / "__pycache__").glob(f"{source.stem}.cpython-3??.pyc")), None)


def is_current(source: Path, bytecode: Path) -> bool:
    """Whether Python takes the bytecode for the source (PEP 552)."""
    head = bytecode.read_bytes()[:16]
    flags, modified, size = struct.unpack("<III", head[4:])
    found = source.stat()
    return bool(flags) or (modified, size) == (int(found.st_mtime), found.st_size & 0xFFFFFFFF)


NOT_COMPILED = re.compile(r"/(tests?|idlelib|lib2to3|(site|dist)-packages|config-[^/]*)/")
"""Of Python's own library: what nobody imports, and what is the base's business."""


@pytest.mark.parametrize("which", ["ours", "python's"])
def test_all_is_compiled(image: Image, which: str) -> None:
    """At run time nothing can be: each process would do it again."""
    if which == "ours":
        sources = list(image.venv.glob("lib/python3*/**/*.py"))
    else:
        library = next(image.rootfs.glob("usr/**/python3*/asyncio")).parent
        found = (path for path in library.rglob("*.py") if not path.is_symlink())
        sources = [path for path in found if not NOT_COMPILED.search(str(path))]
    assert len(sources) > 500
    stale = []
    for source in sources:
        bytecode = compiled(source)
        if bytecode is None or not is_current(source, bytecode):
            stale.append(str(source.relative_to(image.rootfs)))
    assert not stale


def test_nothing_that_built_it_is_left(image: Image) -> None:
    """No tools, no caches, no sources, and nothing that its user could change."""
    gone = re.compile(
        r"(tools|build|wheels|root/\.cache|root/\.local|run/secrets|deploy)(/|$)"
        r"|.*/(uv|uvx|hatchling|cyclonedx-py)$"
    )
    left, writable = [], []
    for name, found in image.files():
        if gone.match(name):
            left.append(name)
        if stat.S_ISCHR(found.st_mode):
            continue  # devices of the base, which an engine covers with its own
        open_to_all = found.st_mode & 0o2 and not found.st_mode & 0o1000
        if found.st_uid == 10001 or (open_to_all and not stat.S_ISLNK(found.st_mode)):
            writable.append(name)
    assert not left
    assert not writable


def test_how_the_index_was_reached_is_nowhere(image: Image) -> None:
    """Addresses and passwords of an index are secrets of the build."""
    assert "/run/secrets/index" in (ROOT / "deploy/Dockerfile").read_text()
    for word in ("PIP_INDEX", "UV_INDEX", "UV_DEFAULT_INDEX", "://pypi", "find-links = "):
        assert word not in image.text
    assert not list(image.rootfs.glob("etc/pip.conf"))
    for record in image.venv.glob("lib/python3*/site-packages/*.dist-info/direct_url.json"):
        pytest.fail(f"{record} says where it came from")
