"""Dead letters as a workbench, on real brokers: nothing is lost, and nothing is doubled unseen."""

import asyncio
import json
import os
import pty
import signal
import stat
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from amqpjobs import App, Queue
from amqpjobs.client.deadletters import Letter, Selection
from amqpjobs.client.deadletters.mover import WINDOW
from amqpjobs.errors import ConfigurationError, DecodeError
from amqpjobs.jobs.job import message_from
from amqpjobs.jobs.message.copies import copied
from amqpjobs.jobs.message.failure import Failure
from amqpjobs.jobs.message.header_names import HEADER_COPY
from amqpjobs.jobs.message.properties import BROKER_HEADERS, Properties
from tests.support.amqp import count, declare, delete_queue, drain, publish, ready, stranger, take
from tests.support.brokers.broker_server import VirtualHost
from tests.support.programs import PROGRAM, ROOT, command, environment, running
from tests.support.workers import app_at

EVERY = Selection()
TIME = 1_700_000_000.0


def an_app(broker: VirtualHost) -> App:
    """The jobs of `tests.support.jobs` as far as letters are of them."""
    app = app_at(broker.url)
    lanes = Queue("lanes", priorities={"high": 2, "low": 1})

    @app.job(queue="work")
    async def quick(n: int) -> None: ...

    @app.job(queue=lanes)
    async def urgent(n: int) -> None: ...

    return app


def failed(n: int, exception: str = "ValueError", **more: Any) -> Properties:
    """The properties of a dead letter with number n."""
    given: dict[str, Any] = {
        "reason": "failed", "message": f"job {n} cannot", "exception": exception, "queue": "work",
        "job": "quick", "frames": (f"/srv/r/{n}/app/jobs.py:{n} quick",), "time": TIME + n,
        "attempt": 1, **more,
    }  # fmt: skip
    original = Properties(
        content_type="application/json", message_id=f"id-{n:05}", type=given["job"],
        headers={"amqpjobs-attempt": 3, "amqpjobs-deadline": 1, "mine": b"\xff\x00"},
    )  # fmt: skip
    return copied(original, Failure(**given))


async def fill(app: App, letters: list[tuple[str, Properties, bytes]]) -> None:
    async with app.lifespan():
        publication = (await app.client.publisher()).publication
        await asyncio.gather(*(publication.send("", *letter) for letter in letters))


async def fill_numbers(app: App, numbers: range, **more: Any) -> None:
    await fill(app, [("work.dead", failed(n, **more), b"%d" % n) for n in numbers])


async def bodies(broker: VirtualHost, queue: str) -> list[int]:
    return [int(message.body) for message in await drain(broker.url, queue)]


@pytest.fixture
async def app(broker: VirtualHost) -> AsyncIterator[App]:
    """An app whose queues are there, on every version in turn."""
    made = an_app(broker)
    async with made.lifespan():
        await made.client.publisher()
        yield made


@pytest.fixture
def env(broker: VirtualHost, tmp_path: Path) -> dict[str, str]:
    return environment(broker.url, tmp_path)


# Looking


async def test_letters_fall_into_groups(app: App) -> None:
    """By exception and places in the code, over releases; without one, by reason and job."""
    await fill_numbers(app, range(5))
    await fill_numbers(app, range(5, 8), exception="app.Broken")
    await fill(app, [
        ("lanes.dead", failed(8, queue="lanes"), b"8"),
        ("lanes.dead", failed(9, queue="lanes.high", reason="invalid", exception=None), b"9"),
        ("lanes.dead", Properties(message_id="bare"), b"\xff"),
    ])  # fmt: skip
    look = await app.dead_letters().groups()
    assert [(g.count, g.queues) for g in look.groups][:2] == [
        (6, ("lanes", "work")),
        (3, ("work",)),
    ]
    assert sorted(g.count for g in look.groups) == [1, 1, 3, 6]
    largest = look.groups[0]
    assert (largest.first, largest.last) == (TIME, TIME + 8)
    assert largest.example.id == "id-00008"
    assert look.letters == []
    again = await app.dead_letters("work").look(Selection((largest.id,)))
    assert [letter.id for letter in again.letters] == [f"id-{n:05}" for n in range(5)]
    assert [letter.body for letter in again.letters] == [b"%d" % n for n in range(5)]
    limited = await app.dead_letters("work").look(limit=2, bodies=False)
    assert (limited.more, [letter.body for letter in limited.letters]) == (True, [b"", b""])
    assert [letter.size for letter in limited.letters] == [1, 1]


async def test_two_who_look_are_told_of_each_other(app: App) -> None:
    """What somebody else holds is not seen: it is said, and not taken for an empty queue."""
    await fill_numbers(app, range(50))
    bench = app.dead_letters("work")
    held, go_on = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        from amqpjobs.broker.rabbitmq.inspection.queues import connected
        from amqpjobs.broker.rabbitmq.inspection.scan import Scan

        async with (
            connected(app.settings, "inspect") as wire,
            Scan(wire, "work.dead", lambda _: True) as scan,
        ):
            async for _ in scan:
                if scan.seen == 50:
                    held.set()
                    await go_on.wait()

    task = asyncio.create_task(hold())
    await held.wait()
    look = await bench.look()
    go_on.set()
    await task
    assert look.letters == []
    assert "another command reads" in str(look.unseen[0])
    assert len((await bench.look()).letters) == 50


# Replaying


async def test_replaying_a_thousand_of_three_thousand(app: App, broker: VirtualHost) -> None:
    """They are back with another life, bytes untouched; the rest is in its order."""
    await fill_numbers(app, range(3000))
    bench = app.dead_letters("work")
    chosen = Selection(since=TIME + 1000, until=TIME + 2000, exception="ValueError", job="quick")
    dry = await bench.replay(chosen, dry_run=True)
    assert (dry.done, dict(dry.targets), dry.absent) == (1000, {"work": 1000}, ())
    moved = await bench.replay(chosen)
    assert (moved.done, moved.failed, moved.seen, moved.unseen) == (1000, 0, 3000, [])
    back = await drain(broker.url, "work")
    assert [int(m.body) for m in back] == list(range(1000, 2000))
    assert await bodies(broker, "work.dead") == [*range(1000), *range(2000, 3000)]
    first = back[0]
    assert (first.message_id, first.type) == ("id-01000", "quick")
    assert first.headers["mine"] == b"\xff\x00"
    assert first.headers["amqpjobs-epoch"] == 1
    assert not {"amqpjobs-attempt", "amqpjobs-deadline", "amqpjobs-error"} & set(first.headers)
    history = first.headers["amqpjobs-history"]
    assert [error["message"] for error in history] == ["job 1000 cannot"]


async def test_each_letter_goes_where_it_came_from(app: App, broker: VirtualHost) -> None:
    """The lane that it says, if the app has it; else the queue whose letter it is; or --to."""
    await fill(app, [
        ("lanes.dead", failed(0, queue="lanes.high"), b"0"),
        ("lanes.dead", failed(1, queue="somewhere"), b"1"),
        ("lanes.dead", Properties(message_id="id-00002"), b"2"),
        ("lanes.dead", failed(3, queue="lanes.high"), b"3"),
    ])  # fmt: skip
    bench = app.dead_letters()
    assert (await bench.replay(Selection(("id-00003",)), to="work")).done == 1
    moved = await bench.replay(EVERY)
    assert moved.targets == Counter({"lanes": 2, "lanes.high": 1})
    assert await bodies(broker, "work") == [3]
    assert await bodies(broker, "lanes.high") == [0]
    assert await bodies(broker, "lanes") == [1, 2]


async def test_a_queue_that_is_not_there_takes_nothing(app: App, broker: VirtualHost) -> None:
    """Asked for, it is refused before anything is sent; gone, the letters stay and are counted."""
    await fill_numbers(app, range(6))
    await fill_numbers(app, range(6, 8), queue="lanes.high")
    bench = app.dead_letters("work")
    with pytest.raises(ConfigurationError, match="no queue 'nowhere'"):
        await bench.replay(EVERY, to="nowhere")
    with pytest.raises(ConfigurationError, match="already"):
        await bench.replay(EVERY, to="work.dead")
    delete_queue(broker, "work")
    assert (await bench.replay(EVERY, dry_run=True)).absent == ("work",)
    moved = await bench.replay(EVERY)
    assert (moved.done, moved.failed, moved.stopped) == (2, 6, False)
    assert sum(moved.errors.values()) == 6
    assert await bodies(broker, "work.dead") == list(range(6))


async def test_a_beginning_that_begins_several_is_refused(app: App, broker: VirtualHost) -> None:
    """And one that begins one is that one, though others have come since."""
    await fill_numbers(app, range(12))
    bench = app.dead_letters("work")
    with pytest.raises(ConfigurationError, match="give more of it"):
        await bench.replay(Selection(("id-0000",)))
    moved = await bench.replay(Selection(("id-00011", "id-0000", "nothing")[::2]))
    assert (moved.done, moved.missing) == (1, ("nothing",))
    assert await bodies(broker, "work") == [11]


async def test_a_queue_that_takes_no_more_ends_it(app: App, broker: VirtualHost) -> None:
    """What is over its limit stays where it was, and the rest is not tried."""
    await fill_numbers(app, range(1200))
    async with stranger(broker.url) as channel:
        limits = {"x-queue-type": "classic", "x-max-length": 10, "x-overflow": "reject-publish"}
        await declare(channel, "small", limits)
    moved = await app.dead_letters("work").replay(EVERY, to="small")
    assert moved.stopped
    assert moved.done >= 10
    assert moved.done + moved.failed <= 10 + WINDOW
    sent, left = await bodies(broker, "small"), await bodies(broker, "work.dead")
    assert len(sent) == moved.done
    assert sorted(sent + left) == list(range(1200))


async def test_two_replays_at_the_same_time(app: App, broker: VirtualHost) -> None:
    """Each letter is sent once, by one of them."""
    await fill_numbers(app, range(2000))
    both = await asyncio.gather(*(app.dead_letters("work").replay(EVERY) for _ in range(2)))
    while (await app.dead_letters("work").replay(EVERY)).done:
        pass
    assert sum(moved.done for moved in both) <= 2000
    assert sorted(await bodies(broker, "work")) == list(range(2000))
    assert await bodies(broker, "work.dead") == []


async def test_a_bounded_rate_is_kept(app: App) -> None:
    """Twenty at a hundred a second take a fifth of a second, and are not held in advance."""
    await fill_numbers(app, range(21))
    begin = time.monotonic()
    assert (await app.dead_letters("work").replay(EVERY, rate=100)).done == 21
    assert time.monotonic() - begin > 0.2


async def test_a_long_replay_goes_on_after_being_renewed(
    app: App, broker: VirtualHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A consumer that holds messages for half an hour is taken for dead: it gives back before."""
    from amqpjobs.client.deadletters import traversal as way

    await fill_numbers(app, range(60))
    monkeypatch.setattr(way, "RENEW_AFTER", 0.05)
    moved = await app.dead_letters("work").replay(Selection(since=TIME + 40), rate=100)
    assert moved.done == 20
    assert await bodies(broker, "work") == list(range(40, 60))
    assert await bodies(broker, "work.dead") == list(range(40))


async def test_a_cancelled_replay_settles_what_it_sent(app: App, broker: VirtualHost) -> None:
    """At any moment: each letter is in one place."""
    await fill_numbers(app, range(1000))
    for at in (1, 7, 333):
        going = asyncio.Event()

        def told(moved: Any, at: int = at, going: asyncio.Event = going) -> None:
            if moved.done >= at:
                going.set()

        task = asyncio.create_task(app.dead_letters("work").replay(EVERY, on_progress=told))
        await going.wait()
        task.cancel()
        await asyncio.wait([task])
    sent, left = await bodies(broker, "work"), await bodies(broker, "work.dead")
    assert sorted(sent + left) == list(range(1000))
    assert len(sent) >= 341


async def test_ctrl_c_and_again(env: dict[str, str], app: App, broker: VirtualHost) -> None:
    """Status 130, the counts are told; started again it goes on: none lost, none doubled."""
    await fill_numbers(app, range(3000))
    with running("dead", "replay", "--all", "--rate", "500", "--json", env=env) as program:
        async with stranger(broker.url) as channel:
            while await count(channel, "work") < 50:
                await asyncio.sleep(0.01)
        program.signal(signal.SIGINT)
        assert await asyncio.to_thread(program.wait) == 130, program.errors
        assert "Traceback" not in program.errors
        told = json.loads(program._out.read_text())
    async with stranger(broker.url) as channel:
        sent = await count(channel, "work")
        assert (told["done"], told["interrupted"]) == (sent, True)
        await ready(channel, "work.dead", 3000 - sent)
    again = await asyncio.to_thread(command, "dead", "replay", "--all", "--json", env=env)
    assert again.returncode == 0, str(again)
    assert json.loads(again.stdout)["done"] == 3000 - sent
    assert await bodies(broker, "work") == list(range(3000))
    assert await bodies(broker, "work.dead") == []


@pytest.mark.parametrize("at", [1, 700, 1500])
async def test_kill_minus_nine_loses_nothing(
    env: dict[str, str], app: App, broker: VirtualHost, at: int
) -> None:
    """What was in flight is in both places: at most the window."""
    await fill_numbers(app, range(3000))
    with running("dead", "replay", "--all", env=env) as program:
        async with stranger(broker.url) as channel:
            while await count(channel, "work") < at:
                await asyncio.sleep(0)
        program.kill()
    async with stranger(broker.url) as channel:
        sent = await count(channel, "work")

        async def are_back() -> bool:
            return await count(channel, "work.dead") >= 3000 - sent

        from tests.support.waiting import until

        await until(are_back, "what was held is back")
    again = await asyncio.to_thread(command, "dead", "replay", "--all", env=env)
    assert again.returncode == 0, str(again)
    seen = Counter(await bodies(broker, "work"))
    assert set(seen) == set(range(3000))
    assert sum(seen.values()) - 3000 <= WINDOW
    assert max(seen.values()) <= 2
    assert await bodies(broker, "work.dead") == []


async def test_parked_and_unroutable_are_replayed_too(app: App, broker: VirtualHost) -> None:
    """Parked jobs to where they came from; delayed ones to the queue that is there again."""
    await fill(app, [("work.parked", failed(1, reason="unknown-job", exception=None), b"1")])
    assert (await app.dead_letters("work", kind="parked").replay(EVERY)).done == 1
    assert await bodies(broker, "work") == [1]
    delete_queue(broker, "work")
    job = app.jobs["quick"]
    from amqpjobs.jobs.job import Job

    delayed = Job[..., object, object](job).with_options(delay=1.2)
    await app.enqueue(message_from(delayed, b"7"))
    async with stranger(broker.url) as channel:

        async def caught() -> bool:
            return await count(channel, "amqpjobs.delay.unroutable") == 1

        from tests.support.waiting import until

        await until(caught, "it is caught")
    bench = app.dead_letters(kind="unroutable")
    (letter,) = (await bench.look()).letters
    assert (letter.target, letter.failure and letter.failure.reason) == ("work", "unroutable")
    assert (await app.dead_letters("lanes", kind="unroutable").look()).letters == []
    assert (await bench.replay(EVERY)).failed == 1, "its queue is still gone"
    again = an_app(broker)
    async with again.lifespan():
        await again.client.publisher()
    assert (await app.dead_letters("work", kind="unroutable").replay(EVERY)).done == 1
    message = await take(broker.url, "work")
    assert message.body == b"7"
    assert not [name for name in message.headers if "death" in name]
    assert message.headers["amqpjobs-history"] == [], "nothing had failed"


# Editing


async def test_a_letter_is_replaced(app: App, broker: VirtualHost) -> None:
    """Checked against its job; what is gone meanwhile is not sent; what it held stays."""
    await fill_numbers(app, range(5))
    bench = app.dead_letters("work")
    letter = (await bench.look()).letters[2]
    with pytest.raises(DecodeError, match="n"):
        bench.check_body(letter, b'"x"')
    with pytest.raises(DecodeError, match="MAX_MESSAGE_SIZE"):
        bench.check_body(letter, b"1" * 2_000_000)
    bench.check_body(letter, b"77")
    assert await bench.replace(letter, b"77")
    assert not await bench.replace(letter, b"78")
    assert [int(m.body) for m in await drain(broker.url, "work")] == [77]
    assert await bodies(broker, "work.dead") == [0, 1, 3, 4]


def an_editor(folder: Path, program: str) -> dict[str, str]:
    """An editor that changes its file by a line of Python; `text` is what is in it."""
    script = folder / "editor"
    script.write_text(
        f"#!{sys.executable}\nimport pathlib, sys\npath = pathlib.Path(sys.argv[-1])\n"
        f"text = path.read_text()\n{program}\n"
    )
    script.chmod(script.stat().st_mode | stat.S_IEXEC)
    return {"VISUAL": str(script), "TMPDIR": str(folder)}


async def test_edit_sends_what_fits(
    env: dict[str, str], app: App, broker: VirtualHost, tmp_path: Path
) -> None:
    """Pretty in the editor, compact on the wire; unchanged sends nothing; a mistake is kept."""
    body = b'{"n": 1,"secret":"1.10"}'
    await fill(app, [("work.dead", failed(1, job="fail"), body)])

    async def edit(program: str, *more: str) -> Any:
        editing = env | an_editor(tmp_path, program)
        return await asyncio.to_thread(command, "dead", "edit", "id-0", *more, env=editing)

    same = await edit("path.write_text(text + '\\n')")
    assert (same.returncode, same.stdout) == (0, ""), same
    assert "unchanged" in same.stderr
    assert not list(tmp_path.glob("amqpjobs-*.json"))
    wrong = await edit("path.write_text(text.replace('1,', '\"x\",'))")
    assert wrong.returncode == 1
    assert "n: " in wrong.stderr
    (kept,) = tmp_path.glob("amqpjobs-*.json")
    assert str(kept) in wrong.stderr
    assert '"n": "x"' in kept.read_text()
    assert kept.stat().st_mode & 0o077 == 0, "arguments may be secrets"
    kept.unlink()
    failed_editor = await edit("sys.exit(3)")
    assert failed_editor.returncode == 1
    assert "status 3" in failed_editor.stderr
    next(tmp_path.glob("amqpjobs-*.json")).unlink()
    gone = await edit("path.write_text(text.replace('1,', '2,'))", "--to", "nowhere")
    assert gone.returncode == 2
    assert "your text is in" in gone.stderr
    next(tmp_path.glob("amqpjobs-*.json")).unlink()
    good = await edit(
        'assert text == \'{\\n  "n": 1,\\n  "secret": "1.10"\\n}\\n\', text\n'
        "path.write_text(text.replace('1,', '2,'))",
        "--json",
    )
    assert good.returncode == 0, good
    assert json.loads(good.stdout)["queue"] == "work"
    assert not list(tmp_path.glob("amqpjobs-*.json"))
    message = await take(broker.url, "work")
    assert message.body == b'{"n":2,"secret":"1.10"}'
    assert message.headers["amqpjobs-epoch"] == 1
    async with stranger(broker.url) as channel:
        assert await count(channel, "work.dead") == 0


# Throwing away


async def test_discard_takes_what_is_chosen(
    env: dict[str, str], app: App, broker: VirtualHost
) -> None:
    """Nobody there to be asked: refused; a limit is a limit."""
    await fill_numbers(app, range(10))
    refused = await asyncio.to_thread(command, "dead", "discard", "--all", env=env)
    assert refused.returncode == 2
    assert "--yes" in refused.stderr
    unsaid = await asyncio.to_thread(command, "dead", "discard", "--yes", env=env)
    assert unsaid.returncode == 2
    assert "--all" in unsaid.stderr
    bench = app.dead_letters("work")
    assert (await bench.discard(EVERY, dry_run=True)).done == 10
    assert (await bench.discard(Selection(since=TIME + 4), limit=2)).done == 2
    done = await asyncio.to_thread(
        command, "dead", "discard", "id-00000", "id-00009", "--yes", "--json", env=env
    )
    assert json.loads(done.stdout)["done"] == 2, str(done)
    assert await bodies(broker, "work.dead") == [1, 2, 3, 6, 7, 8]


def on_a_terminal(*arguments: str, env: dict[str, str], answers: str) -> tuple[int, str]:
    """Run a command whose stdin and stderr are a terminal, and answer what it asks."""
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [*PROGRAM, *arguments], env=env, cwd=ROOT, stdin=theirs, stderr=theirs,
            stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        os.write(ours, answers.encode())
        out, _ = process.communicate(timeout=60)
        return process.returncode, out.decode()
    finally:
        os.close(ours)
        os.close(theirs)


async def test_discard_asks_on_a_terminal(env: dict[str, str], app: App) -> None:
    """No is no, and its status is not 0."""
    await fill_numbers(app, range(3))
    for answer, status, left in (("n\n", 1, 3), ("y\n", 0, 0)):
        done, out = await asyncio.to_thread(
            on_a_terminal, "dead", "discard", "--all", env=env, answers=answer
        )
        assert (done, "3 discarded" in out) == (status, status == 0)
        assert len((await app.dead_letters("work").look()).letters) == left


async def test_a_mistake_in_the_editor_can_be_fixed(
    env: dict[str, str], app: App, broker: VirtualHost, tmp_path: Path
) -> None:
    """It is opened again with what was written, as often as somebody wants."""
    await fill_numbers(app, range(1))
    program = "path.write_text('wrong' if text == '0\\n' else '6' if 'wrong' in text else text)"
    done, out = await asyncio.to_thread(
        on_a_terminal, "dead", "edit", "id-0",
        env=env | an_editor(tmp_path, program), answers="y\n",
    )  # fmt: skip
    assert (done, out) == (0, "sent to work\n")
    assert await bodies(broker, "work") == [6]


# Files

HEADERS: dict[str, Any] = {
    "text": "ü\u2028\x00", "bytes": b"\x00\xff", "no": None, "yes": True, "float": 1.5,
    "time": datetime(2026, 1, 31, 12, tzinfo=UTC), "decimal": Decimal("1.20"), "long": 2**40,
    "table": {"$bytes": "no bytes", "deep": [1, {"$x": [b"\x80"]}]}, "list": [None, Decimal("-3")],
    "marked": {"$bytes": "AA=="},
}  # fmt: skip


def uncounted(letter: Letter) -> Properties:
    """Without what RabbitMQ counts with each look, and what is new in each copy."""
    own = BROKER_HEADERS | {HEADER_COPY}
    told = {name: value for name, value in letter.properties.headers.items() if name not in own}
    return letter.properties._replace(headers=told)


async def test_export_and_import(
    env: dict[str, str], app: App, broker: VirtualHost, tmp_path: Path
) -> None:
    """Bodies and headers as they were; the failure is still there, in its group."""
    await fill_numbers(app, range(3))
    odd = Properties(
        message_id="odd", headers=HEADERS, content_type="text/plain", correlation_id="c",
        reply_to="r", priority=3, delivery_mode=2,
    )  # fmt: skip
    await fill(app, [("work.dead", odd, b"\xff\x00\n")])
    before = (await app.dead_letters("work").look()).letters
    file = tmp_path / "letters"
    done = await asyncio.to_thread(
        command, "dead", "export", "-o", str(file), "--remove", "-q", "work", env=env
    )
    assert done.returncode == 0, str(done)
    assert "4 exported" in done.stdout
    assert file.stat().st_mode & 0o777 == 0o600, "arguments are for who has asked for them"
    async with stranger(broker.url) as channel:
        assert await count(channel, "work.dead") == 0
    taken = await asyncio.to_thread(command, "dead", "export", "-o", str(file), env=env)
    assert taken.returncode == 2, "it holds what was taken out"
    lines = file.read_text().split("\n")
    assert [json.loads(line)["id"] for line in lines[:-1]][-1] == "odd"
    bad = "\n".join([*lines[:2], '{"from": "work.dead", "headers": {"x": {"$bytes": 1}}}'])
    refused = await asyncio.to_thread(command, "dead", "import", "-", env=env, stdin=bad)
    assert refused.returncode == 2
    assert "line 3" in refused.stderr
    strange = json.dumps({"from": "payments", "body": "1"})
    elsewhere = await asyncio.to_thread(command, "dead", "import", "-", env=env, stdin=strange)
    assert elsewhere.returncode == 2
    assert "line 1: 'payments' is no queue of dead letters of this app" in elsewhere.stderr
    lost = await asyncio.to_thread(command, "dead", "import", str(file), "--to", "nowhere", env=env)
    assert lost.returncode == 2
    async with stranger(broker.url) as channel:
        assert await count(channel, "work.dead") == 0, "nothing was sent"
    back = await asyncio.to_thread(command, "dead", "import", str(file), "--json", env=env)
    assert json.loads(back.stdout)["done"] == 4, back
    after = (await app.dead_letters("work").look()).letters
    assert [letter.body for letter in after] == [letter.body for letter in before]
    assert [uncounted(letter) for letter in after] == [uncounted(letter) for letter in before]
    assert [letter.group for letter in after] == [letter.group for letter in before]
    assert uncounted(after[3]).headers == HEADERS
    printed = await asyncio.to_thread(command, "dead", "export", "odd", env=env)
    assert len(printed.stdout.splitlines()) == 1
    assert len((await app.dead_letters("work").look()).letters) == 4, "nothing was taken out"


async def test_unroutable_jobs_survive_a_file(
    app: App, broker: VirtualHost, tmp_path: Path
) -> None:
    """Their routing key says where they go: it comes back with them."""
    async with app.lifespan():
        publication = (await app.client.publisher()).publication
        key = ".".join("0" * 28) + ".work"
        await publication.publish(
            "amqpjobs.delay.unroutable", key, Properties(message_id="1"), b"1", 10
        )
    bench = app.dead_letters(kind="unroutable")
    with (tmp_path / "letters").open("w+b") as file:
        assert (await bench.export(EVERY, file, remove=True)).done == 1
        file.seek(0)
        assert (await bench.import_lines(file)).done == 1
    assert [letter.target for letter in (await bench.look()).letters] == ["work"]


# The command line


async def test_the_commands_for_people(env: dict[str, str], app: App, broker: VirtualHost) -> None:
    """Groups by default; a group, a letter, a raw body; what is not there is said with status 1."""
    await fill_numbers(app, range(3))
    async with stranger(broker.url) as channel:
        await publish(
            channel, "work.dead", b'{"a":[1.10,{}]}', message_id="odd\x1b[2J", type="quick"
        )

    def run(*arguments: str) -> Any:
        return command("dead", *arguments, env=env)

    table = await asyncio.to_thread(run, "list")
    assert table.returncode == 0, table
    assert "\x1b" not in table.stdout
    rows = json.loads((await asyncio.to_thread(run, "list", "--json")).stdout)
    assert [row["count"] for row in rows] == [3, 1]
    group = rows[0]["group"]
    assert group in table.stdout
    shown = await asyncio.to_thread(run, "show", group)
    assert "job 2 cannot" in shown.stdout, shown
    assert group in shown.stdout
    whole = json.loads((await asyncio.to_thread(run, "show", "odd", "--json")).stdout)
    assert whole[0]["body"] == {"a": [1.1, {}]}
    people = await asyncio.to_thread(run, "show", "odd")
    assert "1.10" in people.stdout
    assert "\x1b" not in people.stdout
    assert (await asyncio.to_thread(run, "show", "odd", "--raw")).stdout == '{"a":[1.10,{}]}'
    missing = await asyncio.to_thread(run, "replay", "nothing")
    assert (missing.returncode, "no nothing here" in missing.stderr) == (1, True)
    dry = await asyncio.to_thread(run, "replay", group, "--dry-run")
    assert dry.stdout == "3 would be replayed (work 3)\n"
    done = await asyncio.to_thread(run, "replay", group)
    assert done.stdout == "3 replayed (work 3)\n"
    assert (done.returncode, done.stderr) == (0, "")
