"""What an editor completes: what users are meant to call. A new name is added on purpose."""

import pytest

from amqpjobs import (
    App,
    Batch,
    BlockingJobHandle,
    Bytes,
    CloudEvent,
    CloudEventOf,
    Context,
    Cron,
    Debounce,
    Every,
    Job,
    JobHandle,
    JobStatus,
    Limit,
    MsgPack,
    Queue,
    Retry,
    Router,
    ScheduleStatus,
    Text,
    Tick,
    TickRecord,
    Unique,
)
from amqpjobs.client.blocking import BlockingApp
from amqpjobs.client.fleet import Fleet
from amqpjobs.contrib.audit import Audit
from amqpjobs.contrib.celery import BlockingCeleryTasks, CeleryTasks
from amqpjobs.contrib.sentry import Sentry
from amqpjobs.contrib.timeouts import Timeouts
from amqpjobs.settings import load_settings
from amqpjobs.state.schedules.scheduling import Schedules

made = App("names", settings=load_settings())


@made.job(queue="names")
async def nothing() -> None: ...


NAMES = {
    BlockingCeleryTasks: "request_task send_task",
    CeleryTasks: "blocking request_task send_task",
    # `client`, `configure` and `placed` are for what is built around an app: workers, commands,
    # and test kits.
    App: """
        asyncapi autodiscover blocking broadcast cancel check client close configure dead_letters
        durable_status enqueue fleet hook include job jobs later_many lifespan lock name on
        on_failed on_retry on_start on_stop on_success outbox placed publish publishes queues
        request resources result schedules settings signal status testing undo watch why within
    """,
    Fleet: "count holds pause ping purge resume set_rate workers",
    BlockingApp: """cancel executor later later_many lock publish request result signal
        status undo watch why""",
    Batch: "on_failure seconds size within",
    Cron: "expression jitter missed name overlap tz within",
    Bytes: "accepts content_type dump load single",
    Text: "accepts content_type dump load single",
    MsgPack: "accepts content_type dump load natives",
    CloudEvent: "accepts bound content_type dump filled load natives received sent single",
    CloudEventOf: """data datacontenttype dataschema extensions id source subject time type""",
    Every: "days hours jitter minutes missed name overlap period seconds within",
    Debounce: "at_most key last longest quiet seconds",
    Limit: "group key lease n seconds when_busy",
    Unique: "key seconds ttl until",
    Tick: "due due_time how previous schedule tz",
    TickRecord: "at due how job_id outcome reason schedule",
    Schedules: "backfill get list next pause put remove resume run_now ticks within",
    ScheduleStatus: """
        in_code job job_state last name next note paused paused_until problem retired running
        running_until schedule time_of tz words
    """,
    Job: "later message name queue request with_options within",
    JobHandle: "cancel existing id job queue result signal status watch",
    BlockingJobHandle: "cancel existing id job queue result signal status watch",
    JobStatus: """
        answered attempt detail due_at ended ended_at epoch error has_result id job progress queue
        queued_at reason result sequence started_at state tags updated_at worker
    """,
    Router: "broadcast hook include job on on_failed on_retry on_success",
    Queue: """
        arguments dead delivery_limit failed foreign kill_switch max_priority middleware name parked
        priorities rate singleton type
    """,
    Retry: "attempts factor first give_up_on jitter limit on",
    Context: """
        arguments attempt call cancelled deadline delivery_count each epoch event fence headers
        job job_id last_progress log map message progress queue rate_limited redelivered signal
        sleep step step_in stopping tags tick timeout trace_id
        will_retry would_retry
    """,
    Audit: "",
    Sentry: "",
    Timeouts: "",
}

OBJECTS = {
    App: made,
    BlockingApp: made.blocking(),
    Job: nothing,
    JobHandle: JobHandle("id", "job", "queue"),
    BlockingJobHandle: BlockingJobHandle("id", "job", "queue"),
    Queue: Queue("names"),
    Router: Router(),
    Retry: Retry(),
    Cron: Cron("@daily"),
    Every: Every(minutes=5),
    Tick: Tick("names", 0.0),
    TickRecord: TickRecord("names", 0.0, "cron", "sent", None, "1", 0.0),
    Schedules: made.schedules,
    ScheduleStatus: ScheduleStatus("names", "nothing", None, "?", True),
    Debounce: Debounce(5),
    Limit: Limit(1),
    Unique: Unique(),
}


def public(thing: object) -> list[str]:
    return [name for name in dir(thing) if not name.startswith("_")]


@pytest.mark.parametrize("kind", NAMES, ids=lambda kind: kind.__name__)
def test_the_names_of_a_class_are_these(kind: type) -> None:
    """No more and no less; those of its objects, too."""
    names = NAMES[kind].split()
    assert names == sorted(names)
    on_class = set(public(kind))
    assert on_class <= set(names)
    if kind in OBJECTS:
        assert public(OBJECTS[kind]) == names
    else:
        assert on_class == set(names)
