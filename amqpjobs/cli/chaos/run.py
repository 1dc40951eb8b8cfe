"""One run of ``amqpjobs chaos``: jobs flow, workers are killed, frozen and replaced; what is left?

Changes when a fault is added, or a promise.
"""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from amqpjobs.cli.chaos.proxy import Proxy
from amqpjobs.cli.chaos.workers import Effects, Victim, undisturbed, victim_environment
from amqpjobs.cli.consume import SUPERVISOR
from amqpjobs.cli.output import say
from amqpjobs.cli.supervisor.supervisor import child_command
from amqpjobs.jobs.queue.queue import Queue, lanes_of, put_aside_of

if TYPE_CHECKING:
    from amqpjobs.app import App
    from amqpjobs.client.blocking import BlockingApp
    from amqpjobs.jobs.message.message import Message

TICK = 0.05
"""Seconds between two looks at the workers."""

PAUSE = (0.5, 2.0)
"""Seconds between two faults."""

FROZEN = 8.0
"""Seconds. With heartbeats of 2 s RabbitMQ gives a silent worker up within six."""

START_TIMEOUT = 60.0
"""Seconds until a worker consumes; about one on an idle machine."""

QUIET = 1.5
"""Seconds without a line in any log, after which nothing runs any more."""

MOST = 60_000
"""Messages that are looked at in a queue, in search of those that have not come to an end."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done.

    Attributes:
        workers: how many at once.
        concurrency: jobs at once in each.
        seconds: for which there are faults.
        rounds: so many faults in place of that; None to go by the clock.
        patience: seconds for the jobs to come to their ends afterwards.
        seed: of the choices.
    """

    workers: int
    concurrency: int
    seconds: float
    rounds: int | None
    patience: float
    seed: int


@dataclass(slots=True)
class Findings:
    """What a run came to. Counts are of jobs, but for the faults.

    Attributes:
        followed: jobs that were enqueued here, or that waited and have an id.
        unknown: jobs that waited and have no id: nobody can follow them.
        unfinished: still in a queue, or waiting for their time.
        lost: nowhere, and without an end.
        duplicates: ends that were one too many.
        crashed: workers that ended by themselves.
        proxied: freezes of workers behind a TCP proxy.
        stalled: workers that held jobs for seconds and started none.
        cut_off: connections that workers lost without having been frozen.
        exits: seconds from SIGTERM to the end of each worker that was told to stop.
        failed_exits: how many of those did not end with status 0.
    """

    seed: int
    bound: int = 0
    budget: float = 0.0
    followed: int = 0
    unknown: int = 0
    done: int = 0
    dead: int = 0
    expired: int = 0
    parked: int = 0
    unfinished: int = 0
    lost: list[str] = field(default_factory=list)
    duplicates: int = 0
    kills: int = 0
    freezes: int = 0
    proxied: int = 0
    stalled: int = 0
    restarts: int = 0
    crashed: int = 0
    cut_off: int = 0
    exits: list[float] = field(default_factory=list)
    failed_exits: int = 0

    def promises(self) -> list[dict[str, Any]]:
        """What was promised, what was found, and whether it was kept."""
        slowest = max(self.exits, default=0.0)
        rows: list[tuple[str, object, object, bool]] = [
            ("lost", len(self.lost), 0, not self.lost),
            ("unfinished", self.unfinished, 0, not self.unfinished),
            ("duplicates", self.duplicates, self.bound, self.duplicates <= self.bound),
            ("workers that started no jobs", self.stalled, 0, not self.stalled),
            ("slowest exit, seconds", slowest, self.budget, slowest <= self.budget),
            ("exits with an error", self.failed_exits, 0, not self.failed_exits),
        ]
        return [
            {
                "promise": promise,
                "found": found,
                "allowed": allowed,
                "kept": "yes" if kept else "NO",
            }
            for promise, found, allowed, kept in rows
        ]

    @property
    def kept(self) -> bool:
        """Whether every promise was."""
        return all(row["kept"] == "yes" for row in self.promises())

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return {**asdict(self), "promises": self.promises(), "kept": self.kept}


class Chaos:
    """Runs a plan.

    Args:
        app: whose jobs.
        place: of the app, for the workers: ``package.module:app``.
        queue: that is consumed.
        plan: what to do.
        folder: for the workers' logs.
    """

    def __init__(self, app: "App", place: str | None, queue: "Queue", plan: Plan, folder: Path):
        settings = app.settings
        self.effects = Effects()
        self.findings = Findings(plan.seed, budget=settings.shutdown_timeout)
        self._app = app
        self._queue = queue
        self._plan = plan
        self._folder = folder
        self._random = Random(plan.seed)  # noqa: S311 - not a secret
        self._command = child_command([queue.name], {"app": place, "concurrency": plan.concurrency})
        self._url = settings.url.get_secret_value()
        self._proxy = Proxy(self._url)
        self._followed: set[str] = set()
        self._all: list[Victim] = []
        self._serving: list[Victim] = []
        self._frozen: dict[Victim, float] = {}
        self._began = time.monotonic()

    def run(self, waiting: Iterable[str | None], messages: Sequence["Message[Any]"]) -> Findings:
        """Start, torment, finish, count.

        Args:
            waiting: the ids of what is in the queue already.
            messages: to enqueue while the workers are tormented.
        """
        for job in waiting:
            if job:
                self._followed.add(job)
            else:
                self.findings.unknown += 1
        with self._proxy, self._workers(), self._app.blocking() as client:
            self._began = time.monotonic()
            self._torment(client, messages)
            self._finish()
        self._count()
        return self.findings

    @contextmanager
    def _workers(self) -> Iterator[None]:
        try:
            self._serving = [self._launch() for _ in range(self._plan.workers)]
            for victim in self._serving:
                self._until_ready(victim)
            yield
        finally:
            with undisturbed():
                for victim in self._all:
                    victim.kill()

    def _launch(self) -> Victim:
        name = f"worker-{len(self._all) + 1}"
        proxied = self._proxy.used and len(self._all) % 2 == 0
        environment = victim_environment(self._proxy.url if proxied else self._url)
        # Without this process nobody would stop them.
        environment[SUPERVISOR] = str(os.getpid())
        with undisturbed():
            victim = Victim(name, self._command, environment, self._folder, self.effects.note)
            victim.proxied = proxied
            self._all.append(victim)
        return victim

    def _until_ready(self, victim: Victim) -> None:
        end = time.monotonic() + START_TIMEOUT
        while not victim.ready:
            if victim.status is not None or time.monotonic() > end:
                raise victim.refused()
            self._look()

    def _look(self) -> None:
        """Read the logs, thaw what was frozen long enough, replace what ended by itself."""
        time.sleep(TICK)
        for victim in self._serving:
            victim.follow()
        now = time.monotonic()
        for victim in [v for v, until in self._frozen.items() if until <= now]:
            del self._frozen[victim]
            victim.send(signal.SIGCONT)
        for place, victim in enumerate(self._serving):
            if victim.status is None:
                continue
            if not victim.ready:
                raise victim.refused()
            self.findings.crashed += 1
            self._tell(f"{victim.name} ended by itself, status {victim.status}; see {victim.log}")
            self._frozen.pop(victim, None)
            self._serving[place] = self._launch()

    def _torment(self, client: "BlockingApp", messages: Sequence["Message[Any]"]) -> None:
        plan, faults, sent = self._plan, 0, 0
        due = time.monotonic() + self._random.uniform(*PAUSE)
        while True:
            if plan.rounds is not None:
                part, over = (faults + 1) / plan.rounds, faults >= plan.rounds
            else:
                part = (time.monotonic() - self._began + TICK) / plan.seconds
                over = part >= 1.0
            wanted = len(messages) if over else int(len(messages) * min(1.0, part))
            if wanted > sent:
                self._enqueue(client, messages[sent:wanted])
                sent = wanted
            if over:
                return
            if time.monotonic() >= due:
                faults += self._fault()
                due = time.monotonic() + self._random.uniform(*PAUSE)
            self._look()

    def _enqueue(self, client: "BlockingApp", messages: Sequence["Message[Any]"]) -> None:
        self._followed.update(handle.id for handle in client.later_many(messages))

    def _fault(self) -> bool:
        """Do something bad to somebody; whether there was anybody."""
        ready = [v for v in self._serving if v.ready and v not in self._frozen]
        if not ready:
            return False  # all are frozen, or starting
        victim = self._random.choice(ready)
        faults: dict[str, Callable[[Victim], None]] = {
            "kill -9": self._kill,
            "freeze": self._freeze,
            "restart": self._restart,
        }
        name = self._random.choice(list(faults))
        self._tell(f"{name} {victim.name}")
        faults[name](victim)
        return True

    def _kill(self, victim: Victim) -> None:
        self.findings.kills += 1
        victim.kill()
        victim.follow()
        self._serving[self._serving.index(victim)] = self._launch()

    def _freeze(self, victim: Victim) -> None:
        self.findings.freezes += 1
        self.findings.proxied += victim.proxied
        victim.freezes += 1
        victim.send(signal.SIGSTOP)
        self._frozen[victim] = time.monotonic() + FROZEN

    def _restart(self, victim: Victim) -> None:
        """As a rolling deploy does: the new one is there before the old one is told to stop."""
        self.findings.restarts += 1
        new = self._launch()
        self._serving.append(new)
        self._until_ready(new)
        if victim in self._serving:  # it may have ended by itself meanwhile
            self._serving.remove(victim)
            self._stop([victim])

    def _stop(self, victims: list[Victim]) -> None:
        """SIGTERM, and see that each ends within its budget."""
        began = time.monotonic()
        for victim in victims:
            victim.send(signal.SIGTERM)
        left, patience = list(victims), began + 2 * self.findings.budget + 5
        while left and time.monotonic() < patience:
            for victim in [v for v in left if v.status is not None]:
                left.remove(victim)
                self.findings.exits.append(round(time.monotonic() - began, 2))
                self.findings.failed_exits += victim.status != 0
            self._look()
        for victim in left:
            self.findings.exits.append(round(time.monotonic() - began, 2))
            self.findings.failed_exits += 1
            victim.kill()
        for victim in victims:
            victim.follow()

    def _finish(self) -> None:
        """No more faults: let all jobs come to their ends, and stop the workers."""
        for victim in self._frozen:
            victim.send(signal.SIGCONT)
        self._frozen.clear()
        self._tell("no more faults; waiting for the jobs")
        now = time.monotonic()
        end, told, lines, since = now + self._plan.patience, now, -1, now
        while time.monotonic() < end:
            self._look()
            if self.effects.lines != lines:
                lines, since = self.effects.lines, time.monotonic()
            quiet = time.monotonic() - since > QUIET
            if quiet and self._followed <= self.effects.ends.keys():
                if self._empty():
                    break
                since = time.monotonic()
            if time.monotonic() - told > 5:
                told = time.monotonic()
                self._tell("waiting")
        # One that starts knows nothing of a clean stop yet.
        while starting := [victim for victim in self._serving if not victim.ready]:
            self._until_ready(starting[0])
        stopping, self._serving = self._serving, []
        self._stop(stopping)

    def _empty(self) -> bool:
        """Whether nothing waits in the queue: second copies of what is done, or jobs without id."""
        from amqpjobs.broker.rabbitmq.inspection.queues import connected, depths

        names = [lane.queue for lane in lanes_of(self._queue)]

        async def ask() -> bool:
            async with connected(self._app.settings, "chaos") as wire:
                found = await depths(wire, names, self._app.settings)
            return not any(depth.ready for depth in found.values() if depth is not None)

        return asyncio.run(ask())

    def _count(self) -> None:
        findings, ends = self.findings, self.effects.ends
        findings.followed = len(self._followed)
        ended = {job: ends[job] for job in self._followed if job in ends}
        for each in ("done", "dead", "expired", "parked"):
            setattr(findings, each, sum(each in counter for counter in ended.values()))
        findings.duplicates = sum(counter.total() - 1 for counter in ended.values())
        findings.stalled = sum(victim.stalled for victim in self._all)
        findings.cut_off = sum(victim.cut_off for victim in self._all)
        # Frozen, twice: what runs goes on later, and what is done may not have been acked.
        deaths = findings.kills + 2 * findings.freezes + findings.crashed + findings.cut_off
        findings.bound = deaths * self._plan.concurrency
        if missing := self._followed - ended.keys():
            waiting, put_aside = asyncio.run(self._whereabouts())
            findings.unfinished = len(missing & waiting)
            # RabbitMQ itself put them there: no worker has told.
            findings.dead += len((missing & put_aside) - waiting)
            findings.lost = sorted(missing - waiting - put_aside)

    async def _whereabouts(self) -> tuple[set[str | None], set[str | None]]:
        """The ids of what still waits, and of the dead letters and parked jobs."""
        from amqpjobs.broker.rabbitmq.inspection.delayed import counts, look
        from amqpjobs.broker.rabbitmq.inspection.queues import connected, peek

        queue = self._queue
        async with connected(self._app.settings, "chaos") as wire:
            delayed = {d.id for d in await look(wire, await counts(wire), MOST)}
            waiting = {
                found.properties.message_id
                for lane in lanes_of(queue)
                for found in await peek(wire, lane.queue, MOST)
            }
            put_aside = {
                found.properties.message_id
                for name in put_aside_of(queue)
                for found in await peek(wire, name, MOST)
            }
        return waiting | delayed, put_aside

    def _tell(self, event: str) -> None:
        took = time.monotonic() - self._began
        ended = len(self._followed & self.effects.ends.keys())
        say(f"{took:6.1f} s  {event}; {ended} of {len(self._followed)} jobs have ended")
