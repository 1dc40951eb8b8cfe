"""The audit trail: who started what, and how it ended."""

import logging

import pytest

from amqpjobs import App, Context, Reject, Retry, Snooze
from amqpjobs.contrib.audit import Audit
from amqpjobs.errors import ConfigurationError


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO, "amqpjobs.audit")
    return lambda: [r for r in caplog.records if r.name == "amqpjobs.audit"]


async def test_a_run_has_a_line_at_its_start_and_one_at_its_end(lines):
    """With the keys of the job; values of arguments are shown on request only."""
    app = App("shop", processing=[Audit(arguments=["order"])])

    @app.job(queue="q")
    async def charge(order: int, card: str) -> None: ...

    async with app.testing() as t:
        handle = await charge.later(7, "4111")
        await t.run_until_idle()
    start, end = lines()
    assert (start.message, end.message) == ("job started", "job ended")
    for line in (start, end):
        assert (line.job, line.job_id, line.attempt) == ("charge", handle.id, 1)
        assert line.arguments == {"order": 7, "card": "[redacted]"}
        assert line.who == {"app_id": "shop"}
        assert "4111" not in repr(vars(line))
    assert end.ended == "done"
    assert end.seconds >= 0


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (OSError("no"), ["retrying", "failed"]),
        (Reject("no"), ["rejected"]),
        (Snooze(600), ["snoozed"]),
    ],
)
async def test_an_end_has_one_word(lines, end, words):
    """Whatever was raised is raised on."""
    app = App("shop", processing=[Audit()], retry=Retry(attempts=2))

    @app.job(queue="q")
    async def job(ctx: Context) -> None:
        raise end

    async with app.testing(raise_errors=False) as t:
        await job.later()
        await t.run_until_idle()
        await t.advance(60)
    ends = [line for line in lines() if line.message == "job ended"]
    assert [line.ended for line in ends] == words
    assert {line.error for line in ends} == {type(end).__name__}


def test_names_are_lists():
    """A text would be taken for its letters."""
    with pytest.raises(ConfigurationError, match="lists of names"):
        Audit(headers="tenant")


async def test_a_durable_job_that_waits_is_suspended_which_is_no_error(lines):
    """It goes on in another run."""
    app = App("shop", processing=[Audit()])

    @app.job(queue="q", durable=True)
    async def job(ctx: Context) -> None:
        await ctx.sleep("a while", 60)

    async with app.testing() as t:
        await job.later()
        await t.run_until_idle()
        await t.advance(61)
    ends = [line for line in lines() if line.message == "job ended"]
    assert [line.ended for line in ends] == ["suspended", "done"]
    assert not any(hasattr(line, "error") for line in ends)
