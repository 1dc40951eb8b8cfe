"""What `import amqpjobs` gives, and what it does not cost."""

import subprocess
import sys

import fast_depends
import pytest

import amqpjobs

NAMES = [
    "GITHUB",
    "INJECTED",
    "SIGNED",
    "SLACK",
    "STANDARD_WEBHOOKS",
    "STRIPE",
    "App",
    "Batch",
    "BatchFailed",
    "BlockingJobHandle",
    "Body",
    "Bytes",
    "CloudEvent",
    "CloudEventOf",
    "Context",
    "Cron",
    "Debounce",
    "Depends",
    "DurableStatus",
    "Ended",
    "Event",
    "Every",
    "Exchange",
    "Job",
    "JobHandle",
    "JobStatus",
    "Json",
    "KillSwitch",
    "Limit",
    "Message",
    "MsgPack",
    "Pipeline",
    "Queue",
    "Reject",
    "Retry",
    "RetryAfter",
    "Router",
    "ScheduleStatus",
    "Selection",
    "Signing",
    "Snooze",
    "StepStatus",
    "Text",
    "Tick",
    "TickRecord",
    "Undo",
    "Unique",
    "Why",
    "__version__",
    "group",
]


def test_the_public_names_are_these():
    """A name that goes is a breaking change; one that comes is a promise. Both on purpose."""
    assert amqpjobs.__all__ == NAMES


def test_the_public_names_are_sorted_as_ruff_sorts_them():
    """Constants, classes, the rest: one place for each name, so that changes do not collide."""

    def place(name):
        return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)

    assert sorted(amqpjobs.__all__, key=place) == amqpjobs.__all__


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_there(name):
    """The lazy ones too."""
    assert getattr(amqpjobs, name) is not None


def test_depends_is_fast_depends_own():
    """No wrapper: what its documentation says holds here."""
    assert amqpjobs.Depends is fast_depends.Depends


def test_a_name_that_is_not_there_is_an_attribute_error():
    """The lazy names must not hide a typing mistake."""
    with pytest.raises(AttributeError, match="Quue"):
        _ = amqpjobs.Quue


@pytest.mark.parametrize(
    "heavy",
    [
        "aio_pika", "aiormq", "pydantic_settings", "typer", "rich", "opentelemetry",
        "fast_depends", "sqlalchemy", "anyio", "cronsim", "zoneinfo",
    ],
)  # fmt: skip
def test_importing_amqpjobs_imports_nothing_heavy(heavy):
    """A web tier pays for what it uses; the settings and the wire are loaded on first use."""
    program = f"import sys, amqpjobs; sys.exit({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_part_imports_no_app():
    """The embedded broker starts in milliseconds, and a plugin costs every run of pytest."""
    program = (
        "import sys, amqpjobs, amqpjobs.broker.embedded\n"
        "absent = 'amqpjobs.app' not in sys.modules\n"
        "amqpjobs.errors.AmqpJobsError, amqpjobs.App\n"
        "sys.exit(not (absent and 'amqpjobs.app' in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_an_app_that_only_publishes_imports_what_it_needs():
    """Importing amqpjobs and making an app stays below 80 ms of processor time, which a test could
    not measure on a busy machine: what is not needed for it is imported on first use."""
    program = (
        "import sys, amqpjobs\n"
        "amqpjobs.App('a')\n"
        "sys.exit(', '.join(m for m in ('pydantic', 'amqpjobs.settings', "
        "'amqpjobs.client.requests', "
        "'amqpjobs.client.publisher', 'amqpjobs.client.blocking', "
        "'amqpjobs.telemetry.traces.propagation', 'amqpjobs.jobs.webhook', 'importlib.metadata', "
        "'difflib') if m in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


def test_declaring_jobs_imports_nothing_heavy_either():
    """Modules of jobs are imported by everything that only wants their models."""
    program = (
        "import sys, amqpjobs\n"
        "app = amqpjobs.App('a')\n"
        "@app.job(queue=amqpjobs.Queue('q'))\n"
        "async def job(x: int) -> int: return x\n"
        "job.message(1); app.check()\n"
        "sys.exit(', '.join(m for m in ('aio_pika', 'pydantic_settings', 'fast_depends', "
        "'opentelemetry') if m in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
