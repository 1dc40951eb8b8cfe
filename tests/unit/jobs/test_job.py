"""A job is called now, later, or as a value; the function may look in many ways."""

import asyncio
import dataclasses
import json
from contextvars import copy_context
from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated, Generic, TypeVar

import attrs
import pytest
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError
from pydantic.dataclasses import dataclass as pydantic_dataclass

from amqpjobs import INJECTED, App, Context, Depends, Message, Queue
from amqpjobs.client.client import registry_of
from amqpjobs.errors import ConfigurationError, DecodeError, InvalidArguments
from amqpjobs.jobs.job import definition_of, message_from
from amqpjobs.jobs.run_context import RunContext, current_context

app = App("jobs")
queue = Queue("jobs", priorities={"high": 2, "low": 1})
T = TypeVar("T")


def make_context(definition, job_id="id"):
    return RunContext(definition.name, job_id, "jobs", 3, None, asyncio.Event(), lambda: None)


async def in_a_worker(message: Message):
    """What a worker calls: the handler of the message's job, with the message's body."""
    definition = registry_of(app).find(message.job)
    result = definition.invoke(make_context(definition), definition.payload.load(message.body))
    return await result if definition.kind == "async" else result


@app.job(queue=queue)
async def double(x: int) -> int:
    """Twice as much."""
    return 2 * x


@app.job(queue=queue)
def half(x: int) -> float:
    return x / 2


@app.job(queue=queue)
async def who(ctx: Context, suffix: str = "") -> str:
    return f"{ctx.job} {ctx.attempt}{suffix}"


@app.job(queue=queue)
def who_plain(ctx: Context, suffix: str = "") -> str:
    return f"{ctx.job} {ctx.attempt}{suffix}"


async def test_a_plain_call_runs_it_now():
    """No broker, no worker; a `def` stays a `def`."""
    assert await double(4) == 8
    assert await double(x=4) == 8
    assert half(4) == 2.0


async def test_a_worker_runs_the_same_function():
    """With the arguments as they were given."""
    assert await in_a_worker(double.message(4)) == 8
    assert await in_a_worker(half.message(x=4)) == 2.0


async def test_the_context_is_supplied_in_a_plain_call_and_in_a_worker():
    """The caller never gives it."""
    assert await who() == "who 1"
    assert await who("!") == "who 1!"
    assert who_plain(suffix="?") == "who_plain 1?"
    assert await in_a_worker(who.message("!")) == "who 3!"
    assert await in_a_worker(who_plain.message()) == "who_plain 3"


async def test_a_plain_call_within_a_job_sees_that_jobs_context():
    """It is part of that job: the same id in the logs, the same stopping."""
    outer = make_context(definition_of(double))
    scope = copy_context()
    scope.run(current_context.set, outer)
    assert scope.run(who_plain) == "double 3"


def test_a_plain_call_needs_no_event_loop():
    """In a script, with the context too."""
    assert who_plain() == "who_plain 1"


def test_a_job_looks_like_its_function():
    """For documentation and for people."""
    assert double.__name__ == "double"
    assert double.__doc__ == "Twice as much."
    assert double.__module__ == __name__
    assert repr(double) == "<job double on jobs>"
    assert (double.name, double.queue) == ("double", queue)


def test_a_message_is_the_call_as_a_value():
    """Validated and encoded: what happens to the objects afterwards changes nothing."""
    message = double.message(4)
    assert (message.job, message.queue, message.body) == ("double", "jobs", b"4")
    assert message.id != double.message(4).id


def test_a_message_is_a_snapshot_of_its_arguments():
    """A list that grows afterwards does not."""

    numbers = [1]
    message = total.message(numbers)
    numbers.append(2)
    assert message.body == b"[1]"


@app.job(queue=queue)
async def total(numbers: list[int]) -> int:
    return sum(numbers)


def test_wrong_arguments_are_told_before_anything_is_sent():
    """By the job's name and the parameter's."""
    with pytest.raises(InvalidArguments, match="double: x: "):
        double.message("four")
    with pytest.raises(InvalidArguments, match="double: missing"):
        double.message()


def test_a_message_can_be_made_of_json():
    """As the command line does."""
    assert message_from(double, b"4").body == b"4"
    with pytest.raises(DecodeError):
        message_from(double, b'"four"')


def test_options_are_of_the_calls_made_through_them():
    """The job itself keeps none."""
    urgent = double.with_options(priority="high", expires=60)
    assert urgent.message(1).queue == "jobs.high"
    assert urgent.message(1).options.expires == 60
    assert double.message(1).queue == "jobs"
    assert double.message(1).options.expires is None


def test_options_add_up():
    """What was given before stays, unless it is given again."""
    options = (
        double.with_options(priority="high", timeout=5).with_options(timeout=6).message(1).options
    )
    assert (options.priority, options.timeout) == ("high", 6)


def test_a_native_priority_travels_with_the_message():
    """It is a property of AMQP's."""
    local = App("local")

    @local.job(queue=Queue("classic", type="classic", max_priority=9))
    async def job() -> None: ...

    assert job.with_options(priority=7).message().native_priority == 7
    assert job.message().native_priority is None


@pytest.mark.parametrize(
    "options",
    [
        {"expires": 0}, {"expires": -1}, {"expires": float("nan")}, {"expires": float("inf")},
        {"expires": 4_294_968}, {"timeout": 0}, {"timeout": -0.5}, {"priority": "urgent"},
        {"priority": 3}, {"delay": -1}, {"delay": float("nan")}, {"delay": float("inf")},
        {"delay": 2**28}, {"delay": timedelta(seconds=-1)}, {"at": datetime(2050, 1, 1)},
        {"at": datetime(2150, 1, 1, tzinfo=UTC)},
        {"delay": 1, "at": datetime(2027, 1, 1, tzinfo=UTC)},
    ],
)  # fmt: skip
def test_options_that_cannot_work_are_told_at_once(options):
    """Not when the job is sent."""
    with pytest.raises(ConfigurationError):
        double.with_options(**options)


def test_a_delay_is_seconds_or_a_timedelta():
    """Counted from when the message is published, not from when it is made."""
    for delay in (90, 90.0, timedelta(minutes=1.5)):
        options = double.with_options(delay=delay).message(1).options
        assert options.delay == 90
        assert options.due(1000.0) == 1090.0
    assert double.with_options(delay=0).message(1).options.due(1000.0) is None
    assert double.message(1).options.due(1000.0) is None


def test_a_time_is_the_same_moment_in_every_zone():
    """Whoever reads the message."""
    moment = datetime(2027, 1, 1, 12, tzinfo=UTC)
    elsewhere = moment.astimezone(timezone(timedelta(hours=5)))
    dues = {double.with_options(at=at).message(1).options.due(0.0) for at in (moment, elsewhere)}
    assert dues == {moment.timestamp()}


def test_a_time_that_has_passed_means_at_once():
    """As somebody would expect who was late."""
    assert (
        double.with_options(at=datetime(2020, 1, 1, tzinfo=UTC)).message(1).options.due(2e9) is None
    )


def test_a_delay_takes_the_place_of_a_time_that_was_given_before():
    """And the other way round: the last word counts."""
    at = datetime(2027, 1, 1, tzinfo=UTC)
    options = double.with_options(at=at).with_options(delay=5).message(1).options
    assert (options.delay, options.at) == (5, None)
    options = (
        double.with_options(delay=5).with_options(at=at).with_options(timeout=3).message(1).options
    )
    assert (options.delay, options.at, options.timeout) == (None, at.timestamp(), 3)


# --- methods ---------------------------------------------------------------------------------


class Model(BaseModel):
    album_id: int = Field(alias="albumId")
    _cache: int = PrivateAttr(default=7)

    @app.job(queue=queue)
    async def call(self, factor: int = 1) -> int:
        return self.album_id * factor

    @app.job(queue=queue)
    def now(self) -> int:
        return self.album_id

    @app.job(queue=queue)
    async def with_context(self, ctx: Context, what: str) -> str:
        return f"{self.album_id} {what} {ctx.job}"


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    album_id: int

    @app.job(queue=queue)
    async def call(self) -> int:
        return self.album_id


@dataclasses.dataclass
class Data:
    album_id: int

    @app.job(queue=queue)
    async def call(self) -> int:
        return self.album_id


@dataclasses.dataclass(frozen=True, slots=True)
class Slots:
    album_id: int

    @app.job(queue=queue)
    async def call(self) -> int:
        return self.album_id


@pydantic_dataclass
class Checked:
    album_id: int

    @app.job(queue=queue)
    async def call(self) -> int:
        return self.album_id


@attrs.define
class Defined:
    album_id: int

    @app.job(queue=queue)
    async def call(self) -> int:
        return self.album_id


@attrs.define(slots=False)
class Dict:
    album_id: int

    @app.job(queue=queue)
    async def call(self) -> int:
        return self.album_id


@attrs.frozen
class Private:
    _album_id: int

    @app.job(queue=queue)
    async def call(self) -> int:
        return self._album_id


OBJECTS = [
    Frozen(album_id=7), Data(7), Slots(7), Checked(7), Defined(7), Dict(7), Private(7),
]  # fmt: skip


@pytest.mark.parametrize("thing", OBJECTS, ids=lambda thing: type(thing).__name__)
async def test_a_method_runs_now_and_later(thing):
    """The only word that changes is `later`; the object is rebuilt from its fields."""
    assert await thing.call() == 7
    message = thing.call.message()
    assert message.job == f"{type(thing).__name__}.call"
    assert json.loads(message.body) == {"album_id": 7}
    assert await in_a_worker(message) == 7


@pytest.mark.parametrize("thing", OBJECTS, ids=lambda thing: type(thing).__name__)
def test_a_method_that_is_a_job_is_no_field_of_its_class(thing):
    """Neither in equality nor in the constructor."""
    kind = type(thing)
    if dataclasses.is_dataclass(kind):
        names = [f.name for f in dataclasses.fields(kind)]
    elif attrs.has(kind):
        names = [f.alias for f in attrs.fields(kind)]
    else:
        names = list(kind.model_fields)
    assert names == ["album_id"]
    assert kind(album_id=7) == thing


async def test_the_method_of_a_pydantic_model_takes_arguments_and_a_context():
    """And the model keeps its aliases on the wire."""
    album = Model(albumId=7)
    assert await album.call(3) == 21
    assert album.now() == 7
    assert await album.with_context("x") == "7 x Model.with_context"
    message = album.call.message(factor=3)
    assert json.loads(message.body) == {"self": {"albumId": 7}, "factor": 3}
    assert await in_a_worker(message) == 21
    assert await in_a_worker(album.with_context.message("x")) == "7 x Model.with_context"


async def test_a_method_can_be_called_through_its_class():
    """As any function can, with the object first."""
    assert await Data.call(Data(3)) == 3
    assert Data.call.message(Data(3)).body == b'{"album_id":3}'
    with pytest.raises(InvalidArguments, match="self"):
        Data.call.message()


def test_a_method_keeps_its_docstring_and_its_options():
    """Bound, too."""
    bound = Data(1).call.with_options(priority="high")
    assert bound.message().queue == "jobs.high"
    assert bound.message().body == b'{"album_id":1}'


def test_an_object_that_was_changed_into_something_wrong_is_not_sent():
    """The worker could not rebuild it."""
    album = Data(1)
    album.album_id = "seven"
    with pytest.raises(InvalidArguments, match=r"Data\.call"):
        album.call.message()


class Sub(Model):
    extra: int = 5


@dataclasses.dataclass
class SubData(Data):
    extra: int = 5


async def test_a_subclass_inherits_the_plain_call():
    """A plain call has no wire, so that nothing can be lost on it."""
    assert await Sub(albumId=2).call(3) == 6
    assert await SubData(2).call() == 2


@pytest.mark.parametrize("thing", [Sub(albumId=2), SubData(2)])
def test_a_subclass_is_not_sent_as_its_base(thing):
    """Its own fields would be lost without a word; bound, and through the class."""
    with pytest.raises(InvalidArguments, match="declare the job on the subclass"):
        thing.call.message()
    with pytest.raises(InvalidArguments, match="declare the job on the subclass"):
        type(thing).call.message(thing)


async def test_a_subclass_may_declare_the_job_as_its_own():
    """Under its own name."""

    @dataclasses.dataclass
    class Own(Data):
        @app.job(queue=queue)
        async def call(self) -> int:
            return -self.album_id

    assert Own.call.name == "Own.call"
    assert await in_a_worker(Own(2).call.message()) == -2
    assert await in_a_worker(Data(2).call.message()) == 2


def test_an_object_of_a_generic_model_is_not_sent_without_its_type():
    """`Box[int]` would come back as `Box`, and take anything."""

    class Box(BaseModel, Generic[T]):
        content: T

        @app.job(queue=queue)
        async def call(self) -> None: ...

    with pytest.raises(InvalidArguments, match="declare the job on the subclass"):
        Box[int](content=1).call.message()


def test_a_model_with_a_job_still_validates():
    """The job is not in the way."""
    with pytest.raises(ValidationError):
        Frozen(album_id=1, call=3)


# --- dependencies ------------------------------------------------------------------------------

EVENTS: list[str] = []


@pytest.fixture(autouse=True)
def _no_events():
    EVENTS.clear()


class Session:
    def __init__(self, name: str = "real") -> None:
        self.name = name


async def get_session():
    EVENTS.append("open")
    try:
        yield Session()
    finally:
        EVENTS.append("close")


def get_unit(session: Annotated[Session, Depends(get_session)]) -> str:
    return f"unit of {session.name}"


def get_plain():
    EVENTS.append("open plain")
    yield "plain"
    EVENTS.append("close plain")


@app.job(queue=queue)
async def injected(count: int, session: Annotated[Session, Depends(get_session)] = INJECTED) -> str:
    EVENTS.append("run")
    return f"{count} {session.name}"


@app.job(queue=queue)
async def by_default(count: int, session: Session = Depends(get_session)) -> str:
    EVENTS.append("run")
    return f"{count} {session.name}"


@app.job(queue=queue)
async def nested(
    ctx: Context, count: int, unit: Annotated[str, Depends(get_unit)] = INJECTED
) -> str:
    EVENTS.append("run")
    return f"{ctx.job} {count} {unit}"


@app.job(queue=queue)
def in_thread(count: int, plain: Annotated[str, Depends(get_plain)] = INJECTED) -> str:
    EVENTS.append("run")
    return f"{count} {plain}"


@app.job(queue=queue)
async def first_in_line(unit: Annotated[str, Depends(get_unit)], count: int) -> str:
    return f"{count} {unit}"


@app.job(queue=queue)
async def failing(session: Annotated[Session, Depends(get_session)] = INJECTED) -> None:
    raise LookupError


class Injected(BaseModel):
    album_id: int

    @app.job(queue=queue)
    async def call(
        self, ctx: Context, x: int, session: Annotated[Session, Depends(get_session)] = INJECTED
    ) -> str:
        return f"{self.album_id} {x} {session.name} {ctx.job}"


@pytest.mark.parametrize("job", [injected, by_default])
async def test_a_dependency_is_supplied_now_and_later(job):
    """Opened before the handler runs, closed after it."""
    assert await job(3) == "3 real"
    assert EVENTS == ["open", "run", "close"]
    assert await in_a_worker(job.message(3)) == "3 real"
    assert EVENTS == ["open", "run", "close"] * 2


async def test_a_dependency_may_have_dependencies():
    """And stands beside the Context."""
    assert await nested(3) == "nested 3 unit of real"
    assert EVENTS == ["open", "run", "close"]
    assert await in_a_worker(nested.message(3)) == "nested 3 unit of real"


async def test_a_plain_function_gets_its_dependencies_too():
    """Of the plain kind."""
    assert in_thread(3) == "3 plain"
    assert EVENTS == ["open plain", "run", "close plain"]
    assert await in_a_worker(in_thread.message(3)) == "3 plain"


async def test_a_method_gets_its_dependencies_too():
    """After the object and the context."""
    assert await Injected(album_id=1).call(2) == "1 2 real Injected.call"
    message = Injected(album_id=1).call.message(2)
    assert json.loads(message.body) == {"self": {"album_id": 1}, "x": 2}
    assert await in_a_worker(message) == "1 2 real Injected.call"


async def test_a_dependency_that_stands_first_takes_no_argument_of_others():
    """As in FastAPI, order does not matter."""
    assert await first_in_line(count=3) == "3 unit of real"
    assert await in_a_worker(first_in_line.message(3)) == "3 unit of real"


async def test_a_dependency_is_closed_when_the_handler_fails():
    """A session must not stay open."""
    with pytest.raises(LookupError):
        await failing()
    assert EVENTS == ["open", "close"]


async def test_a_dependency_can_be_given_by_keyword():
    """So that a test needs no container: nothing is opened."""
    assert await injected(3, session=Session("mine")) == "3 mine"
    assert await by_default(3, session=Session("mine")) == "3 mine"
    assert EVENTS == ["run", "run"]


@pytest.mark.parametrize("job", [injected, by_default])
def test_a_dependency_does_not_travel(job):
    """The worker has its own; a caller who gives one is told."""
    assert job.message(3).body == b"3"
    with pytest.raises(InvalidArguments, match="session"):
        job.message(3, session=Session())
