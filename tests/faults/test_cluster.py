"""F28: a cluster of three nodes is partitioned, loses a node, and is restarted node by node.

The nodes are in network namespaces: no packet of a partition arrives, and no socket closes by it.
"""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from amqpjobs.errors import AmqpJobsError, PublishRejected
from tests.conftest import GIVEN_URL, OWN_PARAMS
from tests.faults.fleet import Fleet, WorkerProcess, until
from tests.faults.ledger import Ledger
from tests.faults.publishing import Publishing, finish, leftovers, publishing
from tests.support.brokers.brokers import BrokerFailedError, BrokerMissingError
from tests.support.brokers.cluster import TICK, Cluster, ClusterNode
from tests.support.brokers.network import NoNetworkError
from tests.support.programs import command, environment
from tests.support.waiting import until as eventually

pytestmark = [pytest.mark.cluster, pytest.mark.broker, pytest.mark.timeout(300)]

C, P, W, U = 4, 8, 3, 4

HEARTBEAT = 2

BACK = 2 * HEARTBEAT + 5.0
"""Seconds until jobs that are published after a fault are done, when the nodes know of it."""

SILENT = 3 * (HEARTBEAT + 1) + 5.0
"""Seconds until a worker whose node is silent consumes on another: AMQP clients wait about three
heartbeats for a silent peer."""

PATIENT = {"heartbeat": HEARTBEAT, "reconnect_limit": 1, "publish_timeout": 90}


NEWEST = [param for param in OWN_PARAMS if param.values == ("4.3",)] or OWN_PARAMS

short = pytest.mark.parametrize("cluster", NEWEST, indirect=True)
"""All short forms together are bounded by three minutes. Partitions are short on 3.10 as well: the
nodes of its minority stop serving, which those of 4.3 do not."""


@pytest.fixture(scope="module", params=OWN_PARAMS)
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Three nodes, for all tests of a version; this thread is in the namespace of the clients."""
    if GIVEN_URL:
        pytest.skip("takes a cluster apart, and the given server is not ours to take apart")
    try:
        made = Cluster(request.param)
    except (NoNetworkError, BrokerMissingError, BrokerFailedError) as error:
        pytest.fail(str(error), pytrace=False)
    try:
        with made.hub.entered():
            yield made
    finally:
        made.end()


@dataclass
class Load:
    """Jobs flow from publishers to workers.

    Attributes:
        errors: what publishers were told; they go on.
    """

    cluster: Cluster
    vhost: str
    ledger: Ledger
    publisher: Publishing
    serving: list[WorkerProcess]
    errors: list[AmqpJobsError] = field(default_factory=list)
    flows: list["asyncio.Task[None]"] = field(default_factory=list)

    def flow(self) -> None:
        """Publish from now on."""
        self.flows = [asyncio.create_task(self._publish()) for _ in range(U)]

    async def _publish(self) -> None:
        for number in itertools.count():
            error = await self.publisher.send(self.publisher.jobs.work.message(number, 0.02))
            if error is not None:
                self.errors.append(error)
            await asyncio.sleep(0.05)

    async def flowing(self, count: int = 60) -> None:
        """Wait until so many more jobs are done."""
        before = len(self.ledger.done())
        await until(
            lambda: len(self.ledger.done()) >= before + count, 60, "jobs flow", self._described
        )

    async def flowing_again(self, what: str, unnoticed: float = 0.0) -> None:
        """Wait until a job is done that was published after now, and see that it did not take
        longer than it may.

        Args:
            unnoticed: seconds for which the nodes do not know of it.
        """
        before, began = self.ledger.attempted, time.monotonic()

        def again() -> bool:
            return bool((self.ledger.confirmed - before) & self.ledger.done())

        def rejected() -> bool:
            # The first message of a channel to a quorum queue: 3.10 asks the leader that it knows,
            # and goes on asking it when its node is gone.
            own = self.cluster.version == "3.10" and time.monotonic() - began > BACK
            return own and len(self.errors) >= U and _all_rejected(self.errors[-U:])

        await until(lambda: again() or rejected(), 60, "jobs flow again", self._described)
        took = time.monotonic() - began
        if again():
            self.ledger.measured(f"{what}: jobs flow again after {took:.1f} s")
            assert took <= unnoticed + BACK, self._described()
        else:
            self.ledger.measured(f"{what}: 3.10 rejects messages until the node is back")

    async def stop(self) -> None:
        """Publish no more, and see that no publisher was told an error."""
        for flow in self.flows:
            flow.cancel()
        await asyncio.wait(self.flows)
        if self.cluster.version == "3.10":
            assert _all_rejected(self.errors), self.errors
        else:
            assert not self.errors
        done = self.ledger.done
        await until(lambda: self.ledger.confirmed <= done(), 60, "all is done", self._described)

    def _described(self) -> str:
        queue = self.cluster.described(self.vhost, "work")
        return f"{self.ledger.verdict()}\n{self.ledger.last_events}\n{queue}"

    def begun(self, worker: WorkerProcess, since: float) -> list[float]:
        """When that worker has begun jobs, in seconds after that time."""
        all_ = self.ledger.effects()
        return [e.start - since for e in all_ if e.pid == worker.pid and e.start > since]


def _all_rejected(errors: Sequence[AmqpJobsError]) -> bool:
    return all(isinstance(error, PublishRejected) for error in errors)


def consumed_by(worker: WorkerProcess) -> str:
    """The node that its consumers are connected to, as its log says."""
    told = [e["node"] for e in worker.events("connected") if e["purpose"] == "consume"]
    return str(told[-1]).partition(":")[0] if told else ""


async def started_on(node: ClusterNode, workers: Fleet, url: str, **options: Any) -> WorkerProcess:
    """A worker whose consumers are on that node, which the worker chooses at random."""
    while True:
        worker = await workers.start(url, "work", **options)
        if "," not in url or consumed_by(worker) == node.address:
            return worker
        worker.end()


@asynccontextmanager
async def under_load(
    cluster: Cluster, workers: Fleet, ledger: Ledger, *, apart: bool = False, cut: bool = False
) -> AsyncIterator[tuple[Load, ClusterNode]]:
    """Three workers, and publishers; and the node that leads their queue.

    Args:
        apart: publishers and two of the workers are on the other two nodes.
        cut: the first worker, which is on the node that leads the queue, may go to no other.
    """
    with cluster.virtual_host() as vhost:
        everywhere = cluster.url(vhost)
        async with publishing(everywhere, ledger, **PATIENT):
            pass  # declares the queues
        await asyncio.to_thread(cluster.wait_until_replicated, vhost, "work")
        leader = cluster.leader(vhost, "work")
        others = [node for node in cluster.nodes if node is not leader]
        there = cluster.url(vhost, others) if apart else everywhere
        first = cluster.url(vhost, [leader]) if cut else everywhere
        environment = {"AMQPJOBS_HEARTBEAT": HEARTBEAT, "AMQPJOBS_RECONNECT_LIMIT": 1}
        options = {"concurrency": C, "prefetch": P, **environment}
        serving = [await started_on(leader, workers, first, **options)]
        serving += [workers.launch(there, "work", **options) for _ in range(W - 1)]
        async with publishing(there, ledger, **PATIENT) as publisher:
            for worker in serving:
                await worker.ready()
            load = Load(cluster, vhost, ledger, publisher, serving)
            load.flow()
            await load.flowing()
            yield load, leader
            await load.flowing()
            await load.stop()
        whole = cluster.url(vhost, cluster.nodes[:1])
        await finish(whole, workers, ledger)
        assert not leftovers(whole)
    assert not workers.trouble()


async def refused(load: Load, minority: ClusterNode) -> None:
    """A publisher on the minority's node gets errors, and never a confirm."""
    url = load.cluster.url(load.vhost, [minority])
    impatient = {**PATIENT, "publish_timeout": 3, "declare_topology": False}
    async with publishing(url, load.ledger, **impatient) as publisher:
        work = publisher.jobs.work
        errors = await publisher.send_many(work.message(n) for n in range(-5, 0))
    assert len(errors) == 5, errors


async def check_partitions(
    cluster: Cluster,
    workers: Fleet,
    ledger: Ledger,
    durations: Sequence[float],
    *,
    clients: bool,
) -> None:
    """One node away, for each of the durations.

    Args:
        clients: whether its clients lose it, too; else both halves have clients.
    """
    async with under_load(cluster, workers, ledger, apart=True, cut=not clients) as (load, away):
        others = [node for node in cluster.nodes if node is not away]
        worker = load.serving[0]
        for seconds in durations:
            what = f"{away.nodename} {'away' if clients else 'in the minority'} for {seconds:g} s"
            there = consumed_by(worker) == away.address
            with cluster.partition(away, clients=clients):
                began = time.monotonic()
                ledger.fault(what)
                await load.flowing_again(what, unnoticed=TICK)
                moved = await asyncio.to_thread(cluster.leader, load.vhost, "work", others[0])
                assert moved is not away
                if not clients:
                    await refused(load, away)
                elif seconds > SILENT and there:
                    await until(
                        lambda node=away: consumed_by(worker) != node.address,
                        SILENT,
                        "the worker of that node is on another",
                    )
                    took = time.monotonic() - began
                    ledger.measured(f"{what}: its worker is on another within {took:.1f} s")
                    assert took <= SILENT
                await asyncio.sleep(max(0.0, began + seconds - time.monotonic()))
            ledger.tell("the partition is over")
            over = time.time()
            stuck = await asyncio.to_thread(cluster.heal)
            # 3.10.8 restarts its application on the node of a minority, which may hang in that.
            assert not stuck or cluster.version == "3.10"
            for node in stuck:
                ledger.measured(f"{what}: {node.nodename} did not come back, and was restarted")
            await until(lambda since=over: load.begun(worker, since), 60, "its worker runs jobs")
            took = min(load.begun(worker, over))
            ledger.measured(f"{what}: the worker of that node runs jobs {took:.1f} s after its end")
            await asyncio.to_thread(cluster.wait_until_replicated, load.vhost, "work")
            await load.flowing()
    ledger.check(duplicates=len(durations) * (C * W + U))


@pytest.mark.row("F28")
async def test_the_minority_of_a_partition_confirms_nothing(
    cluster: Cluster, workers: Fleet, ledger: Ledger
) -> None:
    """F28: halves that both have clients: the majority goes on, and nothing confirmed is lost."""
    await check_partitions(cluster, workers, ledger, [10.0], clients=False)


async def warned(load: Load, gone: ClusterNode) -> None:
    """The doctor names the node that is gone, and the queue that no other node may leave."""
    env = environment(
        load.cluster.url(load.vhost), load.ledger.folder, AMQPJOBS_APP="tests.faults.jobs:app"
    )
    rows: dict[str, dict[str, str]] = {}

    async def seen() -> bool:
        done = await asyncio.to_thread(command, "doctor", "--json", env=env)
        rows.update((row["check"], row) for row in json.loads(done.stdout))
        queue = rows["replicas of 'work'"]
        return queue["state"] == "warning" and "in 3 nodes, 2 online, leader " in queue["finding"]

    # The API knows what leaders told some seconds ago.
    await eventually(seen, f"doctor: {rows}", 40.0)
    assert rows["cluster"]["state"] == "warning"
    assert rows["cluster"]["finding"].endswith(f"do not run: {gone.nodename}")
    assert rows["connection"]["finding"].endswith("; the URL names 3 nodes")
    assert gone.address not in rows["connection"]["finding"]


async def check_kills(cluster: Cluster, workers: Fleet, ledger: Ledger, kills: int) -> None:
    """The node that leads the queue is killed, and started again."""
    async with under_load(cluster, workers, ledger) as (load, node):
        for _ in range(kills):
            ledger.fault(f"kill -9 {node.nodename}")
            await asyncio.to_thread(node.kill, flush=False)
            await load.flowing_again(f"kill -9 {node.nodename}")
            other = next(each for each in cluster.nodes if each is not node)
            assert await asyncio.to_thread(cluster.leader, load.vhost, "work", other) is not node
            await warned(load, node)
            await asyncio.to_thread(node.start)
            await asyncio.to_thread(cluster.wait_until_joined)
            await asyncio.to_thread(cluster.wait_until_replicated, load.vhost, "work")
            ledger.tell(f"{node.nodename} is back")
            node = await asyncio.to_thread(cluster.leader, load.vhost, "work")
    ledger.check(duplicates=kills * (C * W + U))


@short
@pytest.mark.row("F28")
async def test_a_killed_node_loses_nothing(
    cluster: Cluster, workers: Fleet, ledger: Ledger
) -> None:
    """F28: its connections go to the other nodes at once, and so does the queue's leader. The
    doctor says what is left.
    """
    await check_kills(cluster, workers, ledger, kills=1)


async def check_rolling_restarts(
    cluster: Cluster, workers: Fleet, ledger: Ledger, rounds: int
) -> None:
    """Each node in turn, as an upgrade does it."""
    async with under_load(cluster, workers, ledger) as (load, _):
        for node in cluster.nodes * rounds:
            ledger.fault(f"restart {node.nodename}")
            await asyncio.to_thread(node.stop)
            await load.flowing_again(f"stop {node.nodename}")
            await asyncio.to_thread(node.start)
            await asyncio.to_thread(cluster.wait_until_joined)
            await asyncio.to_thread(cluster.wait_until_replicated, load.vhost, "work")
            await load.flowing()
    ledger.check(duplicates=rounds * len(cluster.nodes) * (C * W + U))


@short
@pytest.mark.row("F28")
async def test_a_rolling_restart_loses_nothing(
    cluster: Cluster, workers: Fleet, ledger: Ledger
) -> None:
    """F28: no publisher is told an error, since two nodes are there at any time."""
    await check_rolling_restarts(cluster, workers, ledger, rounds=1)


@pytest.mark.row("F28")
@pytest.mark.faults_full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("clients", [False, True], ids=["halves", "away"])
async def test_short_and_long_partitions_lose_nothing(
    cluster: Cluster, workers: Fleet, ledger: Ledger, clients: bool
) -> None:
    """The full form: 10 s and 30 s, twice, with clients on both sides, and with the node gone."""
    await check_partitions(cluster, workers, ledger, [30.0, 10.0, 30.0, 10.0], clients=clients)


@pytest.mark.row("F28")
@pytest.mark.faults_full
@pytest.mark.timeout(1800)
async def test_often_killed_nodes_lose_nothing(
    cluster: Cluster, workers: Fleet, ledger: Ledger
) -> None:
    """The full form."""
    await check_kills(cluster, workers, ledger, kills=10)


@pytest.mark.row("F28")
@pytest.mark.faults_full
@pytest.mark.timeout(1800)
async def test_many_rolling_restarts_lose_nothing(
    cluster: Cluster, workers: Fleet, ledger: Ledger
) -> None:
    """The full form."""
    await check_rolling_restarts(cluster, workers, ledger, rounds=5)
