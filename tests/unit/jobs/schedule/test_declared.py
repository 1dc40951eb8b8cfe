"""``schedule=`` of a job."""

import subprocess
import sys
from typing import Annotated, Any

import pytest

from amqpjobs import INJECTED, App, Batch, Context, Cron, Depends, Every, Router
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.schedule.declared import Declared
from amqpjobs.settings import load_settings

NIGHTLY = Cron("0 3 * * *", name="nightly")


def an_app() -> App:
    return App("shop", settings=load_settings(url="amqp://nowhere.invalid"))


def names(app: App) -> dict[str, str]:
    """The names of schedules, with their jobs."""
    return {name: each.job for name, each in app._registry.schedules.items()}


def test_a_job_may_have_a_schedule() -> None:
    """Which has the name of the job."""
    app = an_app()

    @app.job(queue="reports", schedule=Cron("@daily"))
    async def report(ctx: Context) -> None: ...

    @app.job(queue="reports")
    async def other(n: int) -> None: ...

    assert app._registry.schedules == {"report": Declared("report", "report", Cron("@daily"))}


def test_several_are_numbered_and_named_ones_do_not_count() -> None:
    """So one that is added at the end, or that has a name, leaves the others theirs."""
    app = an_app()

    @app.job(queue="reports", schedule=[NIGHTLY, Cron("@daily"), Every(hours=1)])
    async def report() -> None: ...

    assert list(names(app)) == ["nightly", "report", "report#2"]
    assert app._registry.schedules["report#2"].schedule == Every(hours=1)


def test_names_have_the_prefix_of_their_router() -> None:
    """In each app that includes it, and in routers of routers."""
    outer, inner = Router(prefix="billing"), Router(prefix="monthly")

    @inner.job(queue="reports", name="sum", schedule=(Cron("@monthly"), NIGHTLY))
    async def add_up() -> None: ...

    outer.include(inner)
    for app in (an_app(), an_app()):
        app.include(outer)
        assert names(app) == {
            "billing.monthly.sum": "billing.monthly.sum",
            "billing.monthly.nightly": "billing.monthly.sum",
        }


def test_names_are_unique_in_an_app() -> None:
    """Whichever job was first; that of the refused one is not registered."""
    app = an_app()

    @app.job(queue="reports", schedule=NIGHTLY)
    async def one() -> None: ...

    with pytest.raises(ConfigurationError, match="job 'two'.*'nightly'.*of the job 'one'"):

        @app.job(queue="reports", schedule=[Every(hours=1), NIGHTLY])
        async def two() -> None: ...

    assert names(app) == {"nightly": "one"}
    assert "two" not in app.jobs
    with pytest.raises(ConfigurationError, match="'nightly'"):

        @app.job(queue="reports", schedule=[Every(hours=1, name="a"), Every(hours=2, name="a")])
        async def three() -> None: ...


def session() -> int:
    return 1


def test_what_needs_no_caller_may_be_scheduled() -> None:
    """The Context, what is injected, and what has a default."""
    app = an_app()

    @app.job(queue="a", schedule=Every(hours=1))
    async def all_of_them(
        ctx: Context, pool: Annotated[int, Depends(session)] = INJECTED, n: int = 3
    ) -> None: ...

    @app.job(queue="a", schedule=Every(hours=1), at_most_once=True)
    async def at_most_once() -> None: ...

    @app.job(queue="a", schedule=Every(hours=1), cpu=True)
    def in_a_process(ctx: Context) -> None: ...

    assert len(names(app)) == 3
    assert all_of_them.message().body


def test_what_needs_an_argument_may_not() -> None:
    """When the module loads; it says which one, and where."""
    app = an_app()
    with pytest.raises(ConfigurationError, match=r"job 'report' \(.*parameter 'month' has no def"):

        @app.job(queue="a", schedule=Every(hours=1))
        async def report(ctx: Context, month: int) -> None: ...

    with pytest.raises(ConfigurationError, match="'rows' has no default"):

        @app.job(queue="a", schedule=Every(hours=1), batch=Batch(10))
        async def insert(rows: list[int]) -> None: ...

    with pytest.raises(ConfigurationError, match="schedule= is for a function"):

        class Album:
            @app.job(queue="a", schedule=Every(hours=1))
            async def publish(self) -> None: ...

    with pytest.raises(ConfigurationError, match="'month' has no default"):

        @Router().job(queue="a", schedule=Every(hours=1))
        async def routed(month: int) -> None: ...

    assert not names(app)


def test_annotations_that_come_later_are_checked_at_start(monkeypatch) -> None:
    """As they are in every job."""
    app = an_app()

    @app.job(queue="a", schedule=Every(hours=1))
    async def later(month: "DefinedBelow") -> None: ...  # noqa: F821

    monkeypatch.setitem(globals(), "DefinedBelow", int)
    with pytest.raises(ConfigurationError, match="'month' has no default"):
        app.check()


@pytest.mark.parametrize(
    "given", ["@daily", ["@daily"], 5, [Every(hours=1), None], {Every(hours=1)}, Cron, [[NIGHTLY]]]
)
def test_what_is_no_schedule_is_refused(given: Any) -> None:
    """With what to write, and the name of the job."""
    with pytest.raises(ConfigurationError, match="job 'report'.*schedule is a Cron"):

        @an_app().job(queue="a", schedule=given)
        async def report() -> None: ...


def test_a_job_has_not_too_many() -> None:
    """Somebody has mistaken what a list is for."""
    with pytest.raises(ConfigurationError, match="up to 100"):

        @an_app().job(queue="a", schedule=[Every(hours=1)] * 101)
        async def report() -> None: ...


def test_none_and_an_empty_list_are_no_schedule() -> None:
    """As they may come from a setting."""
    app = an_app()
    for given in (None, [], ()):

        @app.job(queue="a", name=repr(given), schedule=given)
        async def report() -> None: ...

    assert not names(app)


def test_a_job_without_a_schedule_imports_nothing_of_it() -> None:
    """Nor does one of elapsed time."""
    program = (
        "import sys, amqpjobs\n"
        "app = amqpjobs.App('a')\n"
        "@app.job(queue='q')\n"
        "async def job(n: int) -> None: ...\n"
        "@app.job(queue='q', schedule=amqpjobs.Every(minutes=5))\n"
        "async def tick() -> None: ...\n"
        "assert 'cronsim' not in sys.modules\n"
        "amqpjobs.Cron('0 7 * * *')\n"
        "assert 'cronsim' in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
