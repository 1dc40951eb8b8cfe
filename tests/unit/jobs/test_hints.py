"""What other frameworks call it, and what was mistyped: the error says what to write."""

import inspect
import sys
import warnings
from importlib.metadata import Distribution, PackageNotFoundError
from pathlib import Path

import pytest

from amqpjobs import App, Job
from amqpjobs.errors import ConfigurationError, UnknownJob
from amqpjobs.jobs.hints import did_you_mean, install

app = App("hints")


@app.job(queue="hints")
async def send_receipt(order: int) -> None: ...


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("delay", "write `await job.later(...)`"),
        ("apply_async", "write `await job.with_options(...).later(...)`"),
        ("send", "write `await job.later(...)`"),
        ("kiq", "write `await job.later(...)`"),
    ],
)
def test_names_of_other_frameworks_say_what_to_write(name: str, words: str) -> None:
    """An AttributeError as any other, and no name that an editor completes."""
    with pytest.raises(AttributeError, match="'Job' object has no attribute") as caught:
        getattr(send_receipt, name)
    assert words in str(caught.value)
    assert caught.value.name == name
    assert name not in dir(send_receipt)
    assert not hasattr(send_receipt, name)


def test_other_names_are_what_python_says() -> None:
    """With its own suggestion, which needs the name and the object."""
    with pytest.raises(AttributeError) as caught:
        send_receipt.latter  # type: ignore[attr-defined]  # noqa: B018
    assert str(caught.value) == "'Job' object has no attribute 'latter'"
    assert (caught.value.name, caught.value.obj) == ("latter", send_receipt)


def test_a_decorator_without_parentheses_says_what_to_write() -> None:
    """There is no default queue. `@app.job("receipts")` is the same mistake."""
    for wrong in (
        lambda: app.job(send_receipt),  # type: ignore[call-arg]
        lambda: app.job(),  # type: ignore[call-arg]
        lambda: app.job(timeout=5),  # type: ignore[call-arg]
    ):
        with pytest.raises(ConfigurationError, match=r"write `@app\.job\(queue='name'\)`"):
            wrong()
    with pytest.raises(ConfigurationError, match=r"write `@app\.job\(queue='receipts'\)`"):
        app.job("receipts")  # type: ignore[misc]
    assert "queue" in inspect.signature(App.job).parameters, "editors and help() have all of it"
    assert App.job.__doc__


def test_a_call_that_is_not_awaited_says_what_synchronous_code_writes() -> None:
    """Python warns about it, by the name of the function."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        coroutine = send_receipt.later(1)
        del coroutine
        coroutine = send_receipt.request(1)
        del coroutine
    first, second = (str(warning.message) for warning in caught)
    assert "Job.later (without an event loop: app.blocking())' was never awaited" in first
    assert "Job.request (without an event loop: app.blocking())' was never awaited" in second


def test_a_call_without_an_event_loop_says_so() -> None:
    """What drives the coroutine is not asyncio."""
    with pytest.raises(ConfigurationError, match=r"with app\.blocking\(\) as client"):
        send_receipt.later(1).send(None)


def test_a_job_is_still_an_object_like_others() -> None:
    """What looks for attributes that it may not have finds none."""
    assert isinstance(send_receipt, Job)
    assert not hasattr(send_receipt, "__len__")
    assert inspect.unwrap(send_receipt).__name__ == "send_receipt"  # type: ignore[arg-type]


def test_the_nearest_name_is_asked_for() -> None:
    """Of jobs, here; nothing where none is near."""
    with pytest.raises(
        UnknownJob,
        match="no job 'send_reciept'; there are: send_receipt; did you mean 'send_receipt'",
    ):
        app.client.runtime.registry.find("send_reciept")
    with pytest.raises(UnknownJob, match="no job 'x'; there are: send_receipt"):
        app.client.runtime.registry.find("x")
    with pytest.raises(ConfigurationError, match=r"no queue 'hint'; .*did you mean 'hints'"):
        app.client.runtime.registry.choose(["hint"])
    assert did_you_mean("x", []) == ""


class Environment:
    """An environment that amqpjobs was installed into, and what is on the path."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self._monkeypatch = monkeypatch
        self.folder = folder
        self.python = folder / "bin/python"
        monkeypatch.setattr(sys, "executable", str(self.python))
        monkeypatch.setattr(sys, "prefix", str(folder))
        monkeypatch.delenv("VIRTUAL_ENV", raising=False)
        self.has("pip", pip=folder / "bin/pip")

    def has(self, installer: str | None, pip: Path | None) -> None:
        """Who installed amqpjobs, None if it is not; and the program pip that is found."""

        def distribution(name: str) -> Distribution:
            if installer is None:
                raise PackageNotFoundError(name)
            return Distribution.at(self.folder)

        if installer is not None:
            self.folder.joinpath("INSTALLER").write_text(f"{installer}\n")
        here = pip is not None and pip.parent == self.python.parent
        self._monkeypatch.setattr("importlib.metadata.distribution", distribution)
        self._monkeypatch.setattr("shutil.which", lambda _: None if pip is None else str(pip))
        self._monkeypatch.setattr("importlib.util.find_spec", lambda _: sys if here else None)


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Environment:
    return Environment(monkeypatch, tmp_path)


def test_pip_is_named_where_it_is_the_one_of_this_environment(place: Environment) -> None:
    """What the person types installs into the environment that lacks it."""
    assert install("amqpjobs[web]") == "pip install 'amqpjobs[web]'"
    assert install("uvloop") == "pip install uvloop"


@pytest.mark.parametrize("pip", [None, Path("/usr/bin/pip")])
def test_another_pip_would_install_elsewhere(place: Environment, pip: Path | None) -> None:
    """So this Python is named."""
    for installer in ("pip", None):
        place.has(installer, pip)
        assert install("amqpjobs[web]") == f"{place.python} -m pip install 'amqpjobs[web]'"


def test_an_environment_of_uv_has_no_pip(
    place: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is not the one that uv takes by itself, it is named."""
    place.has("uv", None)
    assert install("a[b]") == f"uv pip install --python {place.python} 'a[b]'"
    monkeypatch.setenv("VIRTUAL_ENV", str(place.folder))
    assert install("a[b]") == "uv pip install 'a[b]'"
    monkeypatch.delenv("VIRTUAL_ENV")
    monkeypatch.chdir(place.folder)
    monkeypatch.setattr(sys, "prefix", str(place.folder / ".venv"))
    assert install("a[b]") == "uv pip install 'a[b]'"
