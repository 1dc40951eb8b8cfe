"""Routers: jobs in modules that know no app."""

import os
from dataclasses import dataclass
from types import ModuleType

import pytest

from amqpjobs import App, Context, Ended, Queue, Router
from amqpjobs.errors import ConfigurationError, InvalidArguments


def billing():
    router = Router(prefix="billing")

    @router.job(queue="payments")
    async def charge(order: int) -> str:
        return f"charged {order}"

    return router, charge


async def test_an_app_runs_the_jobs_of_its_routers():
    """Their names have the prefix; the queues are as given."""
    router, charge = billing()
    app = App("shop")
    app.include(router)
    assert list(app.jobs) == ["billing.charge"]
    assert list(app.queues) == ["payments"]
    assert charge.name == "billing.charge"
    assert await charge(7) == "charged 7"
    async with app.testing() as t:
        handle = await charge.later(7)
        assert handle.job == "billing.charge"
        await t.run_until_idle()
        assert t.results(charge) == ["charged 7"]
        assert await charge.request(8) == "charged 8"


async def test_routers_may_be_in_routers():
    """The prefixes stand one behind the other, in whatever order things are declared."""
    outer, inner = Router(prefix="a"), Router(prefix="b")

    @inner.job(queue="q")
    async def before() -> str:
        return "before"

    outer.include(inner)
    app = App("shop")
    app.include(outer)

    @inner.job(queue="q", name="named")
    async def after() -> str:
        return "after"

    plain = Router()

    @plain.job(queue="q")
    async def bare() -> str:
        return "bare"

    inner.include(plain)
    assert [before.name, after.name, bare.name] == ["a.b.before", "a.b.named", "a.b.bare"]
    async with app.testing() as t:
        for job in (before, after, bare):
            await job.later()
        await t.run_until_idle()
        assert [t.results(job) for job in (before, after, bare)] == [
            ["before"],
            ["after"],
            ["bare"],
        ]
    with pytest.raises(InvalidArguments, match=r"a\.b\.before"):
        before.message(1)


async def test_a_job_of_no_app_says_what_to_write():
    """When it is sent."""
    _, charge = billing()
    with pytest.raises(ConfigurationError, match=r"app\.include\(router\)"):
        await charge.later(7)
    with pytest.raises(ConfigurationError, match=r"app\.include\(router\)"):
        await charge.request(7)


async def test_in_several_apps_the_one_whose_job_runs_sends_it():
    """Elsewhere the error says what to write."""
    router, charge = billing()
    one, two = App("one"), App("two")
    one.include(router)
    two.include(router)

    @two.job(queue="start")
    async def start(ctx: Context) -> None:
        await charge.later(7)

    async with one.testing() as first, two.testing() as second:
        with pytest.raises(ConfigurationError, match=r"\(one, two\).*app\.enqueue"):
            await charge.later(7)
        await start.later()
        await second.run_until_idle()
        assert second.results(charge) == ["charged 7"]
        assert first.enqueued() == []
        await one.enqueue(charge.message(8))
        await first.run_until_idle()
        assert first.results(charge) == ["charged 8"]


async def test_each_app_has_its_own_policy_middleware_and_resources():
    """What an app says of its jobs says nothing of another's."""

    def named(name):
        async def middleware(call_next, context):
            return f"{name} {await call_next(context)}"

        return middleware

    router, charge = billing()
    one, two = App("one", processing=[named("one")]), App("two", processing=[named("two")])
    one.include(router)
    two.include(router)
    for app in (one, two):
        async with app.testing() as t:
            await app.enqueue(charge.message(7))
            await t.run_until_idle()
            assert t.results(charge) == [f"{app.name} charged 7"]


async def test_methods_of_classes_are_jobs_of_routers():
    """In several apps, too."""
    router = Router(prefix="mail")
    one, two = App("one"), App("two")
    one.include(router)
    two.include(router)

    @dataclass
    class Mail:
        to: str

        @router.job(queue="mails")
        async def send(self, words: str) -> str:
            return f"{self.to}: {words}"

    assert Mail.send.name.endswith("mail.Mail.send")
    for app in (one, two):
        async with app.testing() as t:
            await app.enqueue(Mail("ada").send.message("hello"))
            await t.run_until_idle()
            assert t.results(Mail.send) == ["ada: hello"]


async def test_hooks_of_a_router_are_for_its_jobs():
    """With those of the routers in it; not for those of the app."""
    router, charge = billing()
    inner, seen = Router(prefix="inner"), []
    router.include(inner)

    @inner.job(queue="q")
    async def deep() -> None: ...

    app = App("shop")

    @router.on_success
    async def note(ended: Ended) -> None:
        seen.append(ended.job)

    app.include(router)

    @router.on_success(charge)
    def note_one(ended: Ended) -> None:
        seen.append(f"only {ended.job}")

    @app.job(queue="q")
    async def other() -> None: ...

    async with app.testing() as t:
        await charge.later(7)
        await deep.later()
        await other.later()
        await t.run_until_idle()
    assert sorted(seen) == ["billing.charge", "billing.inner.deep", "only billing.charge"]


def test_webhooks_of_a_router_are_the_apps():
    """By the name that is given."""
    router = Router(prefix="billing")

    @router.job(queue="payments")
    async def on_payment(event: dict[str, str]) -> None: ...

    router.hook("stripe", job=on_payment)
    app = App("shop")
    app.include(router)
    assert app._registry.hooks["stripe"].job.name == "billing.on_payment"


def test_a_queue_may_be_defined_by_the_app():
    """A router that uses its name gets that one."""
    router, charge = billing()
    app = App("shop")

    @app.job(queue=Queue("payments", priorities={"high": 2, "low": 1}))
    async def job() -> None: ...

    app.include(router)
    assert charge.with_options(priority="high").message(7).queue == "payments.high"


def test_what_cannot_be_included_is_said():
    """Twice, in itself, in two places, a name that is taken, a wrong prefix."""
    router, _ = billing()
    app = App("shop")
    app.include(router)
    with pytest.raises(ConfigurationError, match="in the app 'shop' already"):
        app.include(router)
    with pytest.raises(ConfigurationError, match="before that"):
        Router().include(router)
    with pytest.raises(ConfigurationError, match="a job of this name already"):
        app.include(billing()[0])
    outer, inner = Router(), Router()
    outer.include(inner)
    with pytest.raises(ConfigurationError, match="include that one"):
        app.include(inner)
    with pytest.raises(ConfigurationError, match="include that one"):
        Router().include(inner)
    with pytest.raises(ConfigurationError, match="in itself"):
        inner.include(outer)
    for prefix in (".a", "a.", "a..b"):
        with pytest.raises(ConfigurationError, match="without a dot"):
            Router(prefix=prefix)


@pytest.mark.parametrize("includes", [App("shop"), Router()])
def test_what_is_no_router_cannot_be_included(includes: App | Router):
    """A module that has one is named with it."""
    module = ModuleType("shop.billing")
    module.router = Router()
    with pytest.raises(ConfigurationError, match=r"write include\(shop.billing.router\)"):
        includes.include(module)
    with pytest.raises(ConfigurationError, match="takes a Router, not 'shop.billing'"):
        includes.include("shop.billing")


def test_what_cannot_be_a_job_is_said_where_it_is_declared():
    """Although no app is there yet."""
    router = Router()
    with pytest.raises(ConfigurationError, match="needs a queue"):
        router.job()
    with pytest.raises(ConfigurationError, match="no annotation"):

        @router.job(queue="q")
        async def job(x) -> None: ...


def test_autodiscover_imports_the_modules_of_jobs(monkeypatch):
    """Of the package and its subpackages; a subpackage without any is not imported."""
    import sys

    monkeypatch.syspath_prepend("tests/unit/jobs/routed")
    app = App("found")
    sys.modules.pop("routed_app", None)
    app.autodiscover("shop_package")
    assert sorted(app.jobs) == ["billing.charge", "root"]
    assert "shop_package.idle" not in sys.modules
    for name in [name for name in sys.modules if name.startswith("shop_package")]:
        del sys.modules[name]


def test_autodiscover_says_what_is_wrong(monkeypatch):
    """No package, no module of jobs, a module; an error of the user's own comes as it is."""
    monkeypatch.syspath_prepend("tests/unit/jobs/routed")
    app = App("found")
    with pytest.raises(ConfigurationError, match="no package of this name"):
        app.autodiscover("nowhere_at_all")
    with pytest.raises(ConfigurationError, match=r"no module empty_package\.jobs"):
        app.autodiscover("empty_package")
    with pytest.raises(ConfigurationError, match="not a package"):
        app.autodiscover("just_a_module")
    with pytest.raises(ZeroDivisionError):
        app.autodiscover("broken_package")


async def test_a_process_of_a_job_imports_the_app_that_includes_its_router(monkeypatch):
    """The module of the job knows none. It has the resources of that app, and of no other."""
    monkeypatch.syspath_prepend("tests/unit/jobs/routed")
    import routed_apps
    import routed_cpu

    for app in (routed_apps.one, routed_apps.two):
        async with app.testing() as t:
            await app.enqueue(routed_cpu.where.message())
            await app.enqueue(routed_apps.opened_here.message())
            await t.run_until_idle()
            [[pid, name]] = t.results(routed_cpu.where)
            assert (pid != os.getpid(), name) == (True, "cpu.where")
            assert t.results(routed_apps.opened_here) == [[app.name]]


async def test_an_app_that_includes_in_a_function_is_said(monkeypatch):
    """Where the process of a job would not find it."""
    monkeypatch.syspath_prepend("tests/unit/jobs/routed")
    import routed_apps
    import routed_cpu

    app = App("three")
    routed_apps.later(app)
    async with app.testing(raise_errors=False) as t:
        await app.enqueue(routed_cpu.where.message())
        await t.run_until_idle()
        [ran] = t.runs(routed_cpu.where)
        assert "must include its router when it is imported" in str(ran.error)
