"""Variables that nothing reads."""

import re
from pathlib import Path

import pytest

from amqpjobs.cli.app_option import load_app
from amqpjobs.cli.unknown_variables import unknown_variables
from amqpjobs.errors import ConfigurationError
from amqpjobs.settings import Settings

PACKAGE = Path(__file__).parents[3] / "amqpjobs"


def test_a_mistyped_setting_names_the_nearest() -> None:
    """It would be ignored, and the worker runs with the default."""
    nearest = "; did you mean 'AMQPJOBS_CONCURRENCY'?"
    found = list(unknown_variables({"AMQPJOBS_CONCURENCY": "5", "AMQPJOBS_FLUX": "", "HOME": "/"}))
    assert found == [
        f"the variable AMQPJOBS_CONCURENCY is no setting, and is ignored{nearest}",
        "the variable AMQPJOBS_FLUX is no setting, and is ignored",
    ]


def test_what_is_read_or_set_by_others_is_none() -> None:
    """Every setting, whatever its case; all variables of the code; those of Kubernetes."""
    names = [f"AMQPJOBS_{name.upper()}" for name in Settings.model_fields if "declare" not in name]
    text = "".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    names += re.findall(r"(?<![A-Z_])AMQPJOBS_[A-Z_]*[A-Z]\b", text)
    names += ["amqpjobs_url", "AMQPJOBS_HOOK_GITHUB_SECRET_2", "AMQPJOBS_DECLARE"]
    names += [
        "AMQPJOBS_WEB_SERVICE_HOST",
        "AMQPJOBS_WEB_PORT_8000_TCP_ADDR",
        "AMQPJOBS_SERVICE_PORT",
    ]
    assert list(unknown_variables(dict.fromkeys(names, "x"))) == []


def test_commands_say_so_at_their_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once: the processes of a supervisor do not repeat it."""
    monkeypatch.setenv("AMQPJOBS_PREFETSH", "1")
    load_app("tests.support.jobs:app")
    assert "amqpjobs: the variable AMQPJOBS_PREFETSH is no setting" in capsys.readouterr().err
    monkeypatch.setenv("AMQPJOBS_SUPERVISOR", "1")
    load_app("tests.support.jobs:app")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("tests.support.jobs:ap", "has no 'ap'; did you mean 'app'?"),
        ("tests.support.jobs:xyz", "has no 'xyz'; it has the app 'app'"),
        ("json:xyz", "has no 'xyz'"),
        ("shp:app", "there is no module 'shp'; did you mean 'shop'?"),
        ("zzz:app", "there is no module 'zzz'; is this the right folder?"),
    ],
)
def test_an_app_that_is_not_there_names_the_nearest(
    place: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what is in the module, and of the modules in this folder."""
    (tmp_path / "shop.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(PACKAGE.parent))
    with pytest.raises(ConfigurationError, match=re.escape(words)):
        load_app(place)
