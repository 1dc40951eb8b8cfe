"""``limit=``, ``unique=`` and ``debounce=`` of a job, and the keys that they make."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any

import pytest
from pydantic import BaseModel

from amqpjobs import (
    INJECTED,
    App,
    Batch,
    Context,
    Cron,
    Debounce,
    Depends,
    Limit,
    Router,
    Unique,
)  # fmt: skip
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.exclusion import declared
from amqpjobs.jobs.job import Job, definition_of
from amqpjobs.settings import load_settings


class Order(BaseModel):
    account: str
    lines: dict[str, int] = {}


@dataclass(frozen=True)
class Place:
    x: int
    y: int


def an_app() -> App:
    return App("shop", settings=load_settings(url="amqp://nowhere.invalid"))


def keys(job: Job[..., Any, Any], *args: Any, **kwargs: Any) -> list[str]:
    """The keys of the limits of a call."""
    definition = definition_of(job)
    arguments = definition.payload.complete(
        definition.payload.load(job.message(*args, **kwargs).body)
    )
    assert definition.exclusion is not None
    return [bound.text(definition.name, arguments) for bound in definition.exclusion.limits]


def once(job: Job[..., Any, Any], *args: Any, **kwargs: Any) -> str:
    """The key of a unique call."""
    definition = definition_of(job)
    arguments = definition.payload.complete(
        definition.payload.load(job.message(*args, **kwargs).body)
    )
    assert definition.exclusion is not None
    assert definition.exclusion.key is not None
    return definition.exclusion.key.of(arguments)


def test_limits_of_a_job_and_its_parameters() -> None:
    """Each with its own key; a job without any says nothing, and needs no store."""
    app = an_app()

    @app.job(queue="sync", limit=[Limit(20), Limit(2, key=lambda full: full, group="carrier")])
    async def sync(ctx: Context, customer: Annotated[int, Limit(1)], full: bool = False) -> None:
        del ctx

    @app.job(queue="sync")
    async def plain(customer: int) -> None: ...

    assert keys(sync, 7) == ["sync", "carrier=false", "sync.customer=7"]
    assert keys(sync, 7, full=True) == ["sync", "carrier=true", "sync.customer=7"]
    assert definition_of(sync).remembers
    assert definition_of(plain).exclusion is None
    assert not definition_of(plain).remembers


def test_names_of_fences() -> None:
    """The parameter, the group, and the job for one of the whole."""
    app = an_app()

    @app.job(queue="sync", limit=[Limit(3), Limit(2, group="carrier")])
    async def sync(customer: Annotated[int, Limit(1)]) -> None: ...

    exclusion = definition_of(sync).exclusion
    assert exclusion is not None
    assert [bound.names("sync") for bound in exclusion.limits] == [
        ("sync",), ("carrier", "sync"), ("customer",)
    ]  # fmt: skip


def test_equal_values_make_one_key() -> None:
    """In whatever order a mapping has them, and whatever type they have."""
    app = an_app()

    @app.job(queue="ship")
    async def ship(
        order: Annotated[Order, Limit(1)],
        day: Annotated[date, Limit(1)] = date(2026, 1, 2),
        place: Annotated[Place, Limit(1)] = Place(1, 2),
    ) -> None: ...

    one = keys(ship, Order(account="ä", lines={"a": 1, "b": 2}))
    assert one == keys(ship, Order(account="ä", lines={"b": 2, "a": 1}))
    assert one == [
        'ship.order={"account":"ä","lines":{"a":1,"b":2}}',
        'ship.day="2026-01-02"',
        'ship.place={"x":1,"y":2}',
    ]


def test_a_method_has_its_object_among_the_arguments() -> None:
    """By the name `self`."""
    app = an_app()

    class Shop(BaseModel):
        name: str

        @app.job(queue="open", limit=Limit(1, key=lambda self: self.name))
        async def open(self, door: int) -> None: ...

    definition = app.jobs["Shop.open"]
    assert definition.exclusion is not None
    [bound] = definition.exclusion.limits
    assert bound.text("Shop.open", {"self": Shop(name="a"), "door": 1}) == 'Shop.open="a"'


def test_keys_of_unique_jobs() -> None:
    """A parameter, several in any order, a function, and all arguments."""
    app = an_app()

    def declare(name: str, key: Any) -> Job[..., Any, Any]:
        @app.job(queue="index", name=name, unique=Unique(key))
        async def index(document: int, lang: str = "de") -> None: ...

        return index

    assert once(declare("a", "document"), 7) == "7"
    assert once(declare("b", ["lang", "document"]), 7) == '{"document":7,"lang":"de"}'
    assert once(declare("c", lambda document: [document, 1]), 7) == "[7,1]"
    assert once(declare("d", None), 7) == once(declare("e", None), document=7, lang="de")


def test_a_router_gives_its_prefix_to_the_keys() -> None:
    """As it does to the names of jobs."""
    app, router = an_app(), Router(prefix="billing")

    @router.job(queue="pay", limit=Limit(1))
    async def pay(order: int) -> None: ...

    app.include(router)
    assert keys(pay, 1) == ["billing.pay"]


def declares(**options: Any) -> Callable[[], None]:
    def declare() -> None:
        @an_app().job(queue="q", **options)
        async def job(customer: int, other: str = "") -> None: ...

    return declare


def in_a_batch() -> None:
    @an_app().job(queue="q", batch=Batch(2), limit=Limit(1))
    async def job(rows: list[int]) -> None: ...


def of_what_is_injected() -> None:
    def today() -> str:
        return "today"

    @an_app().job(queue="q")
    async def job(n: int, day: Annotated[str, Depends(today), Limit(1)] = INJECTED) -> None: ...


def with_a_key() -> None:
    @an_app().job(queue="q")
    async def job(n: Annotated[int, Limit(1, key=lambda n: n)]) -> None: ...


def without_a_number() -> None:
    @an_app().job(queue="q")
    async def job(n: Annotated[int, Limit]) -> None: ...


def replacing_by_a_parameter() -> None:
    @an_app().job(queue="q")
    async def job(n: Annotated[int, Limit(1, when_busy="replace")]) -> None: ...


@pytest.mark.parametrize(
    ("declare", "words"),
    [
        (declares(unique=Unique(key="costumer")), "did you mean 'customer'"),
        (declares(limit=Limit(1, key=lambda costumer: costumer)), "did you mean 'customer'"),
        (declares(limit=Limit(1, key=lambda *a: a)), r"takes \*a: name the parameters"),
        (declares(limit=20), "such as Limit"),
        (declares(unique=True), "such as Unique"),
        (declares(debounce=5), "such as Debounce"),
        (declares(limit=[Limit(1), Limit(2)]), "several limits that count the same"),
        (declares(unique=Unique(), debounce=Debounce(5)), "leave unique= or debounce= out"),
        (declares(unique=Unique(), at_most_once=True), "unique= and at_most_once"),
        (declares(limit=Limit(1), at_most_once=True), "limit= and at_most_once"),
        (declares(limit=Limit(1, when_busy="replace")), "cancellable=True"),
        (declares(debounce=Debounce(5), schedule=Cron("@daily")), "leave schedule="),
        (in_a_batch, "leave batch= or the limit out"),
        (of_what_is_injected, "none that a caller gives"),
        (with_a_key, "is its value"),
        (without_a_number, r"write Limit\(1\)"),
        (replacing_by_a_parameter, "cancellable=True"),
        (lambda: Limit(0), "from 1 to"),
        (lambda: Limit(True), "from 1 to"),
        (lambda: Limit(1, key="customer"), "Annotated"),  # type: ignore[arg-type]
        (lambda: Limit(1, group=""), "group"),
        (lambda: Limit(1, when_busy="x"), "when_busy"),  # type: ignore[arg-type]
        (lambda: Limit(1, lease=0), "lease"),
        (lambda: Unique(key=7), "name of a parameter"),  # type: ignore[arg-type]
        (lambda: Unique(ttl=-1), "ttl"),
        (lambda: Debounce(0), "seconds"),
        (lambda: Debounce(10, at_most=5), "at_most"),
    ],
)
def test_what_cannot_be_is_refused_where_it_is_declared(
    declare: Callable[[], object], words: str
) -> None:
    """By an error that says what to write."""
    with pytest.raises(ConfigurationError, match=words):
        declare()


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the job is declared."""
    monkeypatch.setattr(declared, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"limit= needs the store.*amqpjobs\[sql\]"):
        declares(limit=Limit(1))()


def test_declaring_imports_no_sqlalchemy() -> None:
    """A program that only publishes starts without it."""
    code = """
import sys
from typing import Annotated
from amqpjobs import App, Limit, Unique
app = App("shop")
@app.job(queue="sync", limit=Limit(2), unique=Unique())
async def sync(customer: Annotated[int, Limit(1)]) -> None: ...
print("sqlalchemy" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
