"""The amqpjobs that runs here, packed as a wheel."""

import base64
import csv
import hashlib
from importlib.metadata import Distribution, PackageNotFoundError
from pathlib import Path
from zipfile import ZipFile

import pytest

import amqpjobs
from amqpjobs.cli import own_wheel
from amqpjobs.cli.own_wheel import installed, is_from_an_index, write_wheel
from amqpjobs.errors import ConfigurationError

PACKAGE = Path(amqpjobs.__file__).parent


def test_it_has_the_package_and_what_is_said_about_it(tmp_path: Path) -> None:
    """All that runs, the metadata, the program; nothing of how it was installed here."""
    name = write_wheel(installed(), tmp_path)
    assert name == f"amqpjobs-{amqpjobs.__version__}-py3-none-any.whl"
    about = f"amqpjobs-{amqpjobs.__version__}.dist-info"
    with ZipFile(tmp_path / name) as wheel:
        names = set(wheel.namelist())
        assert {n.partition("/")[2] for n in names if n.startswith(about)} == {
            "METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE",
        }  # fmt: skip
        for inside in ("app.py", "cli/starter/Dockerfile.txt", "guide/index.md", "py.typed"):
            assert wheel.read(f"amqpjobs/{inside}") == (PACKAGE / inside).read_bytes()
        assert not [n for n in names if "__pycache__" in n or n.endswith(".pth")]
        for path, digest, size in csv.reader(wheel.read(f"{about}/RECORD").decode().splitlines()):
            names.remove(path)
            if not path.endswith("/RECORD"):
                content = wheel.read(path)
                found = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode()
                assert (f"sha256={found.rstrip('=')}", str(len(content))) == (digest, size)
    assert names == set()


def test_the_same_package_makes_the_same_wheel(tmp_path: Path) -> None:
    """Byte by byte: it is committed, and made again."""
    made = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        made.append((tmp_path / name / write_wheel(installed(), tmp_path / name)).read_bytes())
    assert made[0] == made[1]


def test_an_installer_notes_where_else_it_came_from(tmp_path: Path) -> None:
    """A path or a URL; of an index it notes nothing."""
    assert is_from_an_index(Distribution.at(tmp_path))
    (tmp_path / "direct_url.json").write_text('{"url": "file:///a.whl", "archive_info": {}}')
    assert not is_from_an_index(Distribution.at(tmp_path))


def test_what_is_not_installed_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout on PYTHONPATH."""

    def nothing(name: str) -> Distribution:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(own_wheel, "distribution", nothing)
    with pytest.raises(ConfigurationError, match=f"pip install --editable {PACKAGE.parent}$"):
        installed()
