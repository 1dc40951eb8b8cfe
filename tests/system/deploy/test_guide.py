"""The guide as a site: what is generated from the code is complete, and the site can be built."""

import importlib.util
import subprocess
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import amqpjobs
from amqpjobs.settings import Settings
from tests.support.pages import listed
from tests.support.programs import ROOT


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the site is built from."""
    folder = tmp_path_factory.mktemp("guide")
    generator().write(folder)
    return folder


def generator() -> ModuleType:
    """`deploy/guide_pages.py`, which is in no package."""
    spec = importlib.util.spec_from_file_location("guide_pages", ROOT / "deploy/guide_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_setting_and_command_is_in_the_reference(written: Path) -> None:
    """With the variable's whole name."""
    settings = (written / "docs/reference/settings.md").read_text()
    for name, field in Settings.model_fields.items():
        assert f"`{field.validation_alias or f'AMQPJOBS_{name.upper()}'}`" in settings or (
            name == "url" and "`AMQPJOBS_URL`" in settings
        )
    commands = (written / "docs/reference/commands.md").read_text()
    for name in ("consume", "dead replay", "guide", "topology apply"):
        assert f"\n## amqpjobs {name}\n" in commands
    assert "`--concurrency`" in commands


def test_every_public_name_is_in_the_reference(written: Path) -> None:
    """By the name that users import."""
    api = (written / "docs/reference/api.md").read_text()
    for name in set(amqpjobs.__all__) - {"INJECTED", "Depends", "__version__"}:
        assert f"\n## {name}\n" in api


def test_pages_are_listed_and_have_no_hidden_code(written: Path) -> None:
    """In the order of the index, with the reference before the project."""
    nav = tomllib.loads((written / "zensical.toml").read_text())["project"]["nav"]
    sections = [name for section in nav for name in section]
    assert sections[0] == "The guide"
    assert sections[-2:] == ["Reference", "Project"]
    for page in (written / "docs").glob("*.md"):
        text = page.read_text()
        assert "<!--" not in text
        assert "```python compile" not in text


@pytest.mark.timeout(180)
def test_the_site_is_built_without_a_warning() -> None:
    """And loads nothing from elsewhere: the script looks."""
    built = subprocess.run(
        [ROOT / "deploy/guide"], capture_output=True, text=True, timeout=170, check=False
    )
    assert built.returncode == 0, built.stdout + built.stderr
    for name in (*listed(), "index", "reference/api", "reference/settings", "reference/commands"):
        assert (ROOT / f"dist/guide/{name}.html").exists()
    api = (ROOT / "dist/guide/reference/api.html").read_text()
    assert 'id="amqpjobs.app.App.job"' in api  # which it inherits
