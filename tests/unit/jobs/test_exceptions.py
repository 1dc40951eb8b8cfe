"""Names of exceptions: those of the script that runs are those of the module it is imported as."""

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

from amqpjobs.errors import RemoteError
from amqpjobs.jobs.exceptions import by_name, class_name, matches


class NotEnough(Exception):
    """Of a module."""


class OfScript(Exception):
    """Of the script that runs."""

    __module__ = "__main__"


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """What runs: at a prompt."""
    made = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", made)
    return made


def test_a_class_is_named_by_its_module() -> None:
    """Python's own by themselves."""
    assert class_name(NotEnough) == f"{__name__}.NotEnough"
    assert class_name(ValueError) == "ValueError"
    assert by_name([ValueError, NotEnough]) == {
        "ValueError": ValueError, "builtins.ValueError": ValueError,
        f"{__name__}.NotEnough": NotEnough,
    }  # fmt: skip


def test_a_script_is_named_as_a_worker_imports_it(main: ModuleType, tmp_path: Path) -> None:
    """`python shop.py` here, `amqpjobs consume --app shop:app` there; or from the folder above."""
    main.__file__ = str(tmp_path / "sales" / "shop.py")
    assert class_name(OfScript) == "shop.OfScript"
    known = by_name([OfScript])
    for name in ("__main__.OfScript", "shop.OfScript", "sales.shop.OfScript"):
        assert known[name] is OfScript
    assert "other.OfScript" not in known


def test_what_runs_by_its_module_has_the_name_of_that(main: ModuleType) -> None:
    """`python -m sales.shop`."""
    main.__file__ = "/srv/sales/shop.py"
    main.__spec__ = ModuleSpec("sales.shop", None)
    assert class_name(OfScript) == "sales.shop.OfScript"


def test_a_prompt_has_no_other_name(main: ModuleType) -> None:
    """Nor a file that no import can name."""
    assert class_name(OfScript) == "__main__.OfScript"
    main.__file__ = "/srv/a-script.py"
    assert class_name(OfScript) == "__main__.OfScript"
    assert list(by_name([OfScript])) == ["__main__.OfScript"]


def test_a_policy_of_a_script_knows_what_its_processes_raise(main: ModuleType) -> None:
    """Their names are what comes back from a process of a job."""
    main.__file__ = "/srv/shop.py"
    error = RemoteError(
        "x", exception="shop.OfScript", kinds=("shop.OfScript",), frames=(), traceback=""
    )
    assert matches(error, OfScript)
