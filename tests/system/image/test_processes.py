"""Process 1 and its children: a container that is told to stop leaves nothing undone and nobody
behind."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.brokers.broker_server import VirtualHost, poll
from tests.support.waiting import PATIENCE
from tests.system.image.engine import Container, Place

Make = Callable[..., Place]

BUDGET = 3.0


def noted(folder: Path) -> list[dict[str, Any]]:
    """What the jobs wrote."""
    ledger = folder / "data/ledger"
    return [json.loads(line) for line in ledger.read_text().splitlines()] if ledger.exists() else []


def started(folder: Path, event: str = "started", times: int = 1) -> bool:
    return len([line for line in noted(folder) if line["event"] == event]) >= times


def enqueue(place: Place, job: str, *arguments: object) -> None:
    """As many jobs as there are arguments."""
    sent = "\n".join(f"_ = await {job}.later({json.dumps(each)})" for each in arguments)
    done = place.run("shell", stdin=sent + "\n")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr


def stop(container: Container, budget: float = BUDGET) -> None:
    """SIGTERM: it ends within the budget, with 0, and nobody is left."""
    began = time.monotonic()
    container.signal(signal.SIGTERM)
    assert container.wait(budget + 15) == 0, str(container)
    # crun takes a moment to tell of it on a busy machine, seconds at worst. What is wrong takes
    # longer: the default budget is 8 s, and the jobs hold for a minute.
    assert time.monotonic() - began < budget + 4.5
    assert not Path(f"/proc/{container.first}").exists()


def ready(place: Place, broker: VirtualHost) -> int:
    """The jobs in the queue that somebody could take."""
    said = place.run("queues", "--json")
    return int({row["queue"]: row["ready"] for row in json.loads(said.stdout)}["work"])


def test_two_processes_give_their_jobs_back(
    broker: VirtualHost, place: Make, tmp_path: Path
) -> None:
    """Process 1 passes the signal on, the parent of both does so too, and waits for them."""
    here = place(broker, AMQPJOBS_SHUTDOWN_TIMEOUT=str(BUDGET))
    arguments = ("consume", "work", "--processes", "2", "--concurrency", "1", "--prefetch", "1")
    with here.running(*arguments) as container:
        container.wait_for("worker is ready", times=2, timeout=60)
        enqueue(here, "hold", 0, 1)
        assert poll(lambda: started(tmp_path, times=2), PATIENCE)
        assert container.healthy().count("healthy: ok") == 2
        stop(container)
        assert len(container.logged("job released")) == 2
    assert container.errors == ""
    assert ready(here, broker) == 2


def test_a_job_in_a_process_of_its_own_is_ended_with_all_that_it_started(
    broker_43: VirtualHost, place: Make, tmp_path: Path
) -> None:
    """And given back; the budget holds although it does not end by itself."""
    here = place(broker_43, AMQPJOBS_SHUTDOWN_TIMEOUT=str(BUDGET))
    with here.running("consume", "work") as container:
        container.wait_for("worker is ready", timeout=60)
        enqueue(here, "busy", 7)
        assert poll(lambda: started(tmp_path), PATIENCE)
        assert any("time.sleep(300)" in each for each in container.processes().values())
        stop(container)
    assert ready(here, broker_43) == 1


def test_orphans_are_collected_while_it_runs(
    broker_43: VirtualHost, place: Make, tmp_path: Path
) -> None:
    """Processes whose parents ended first come to process 1, and leave no zombies there."""
    here = place(broker_43)
    with here.running("consume", "work") as container:
        container.wait_for("worker is ready", timeout=60)
        before = set(container.processes())
        done = here.run("enqueue", "leave_orphans", "--args", '{"n": 5, "seconds": 1}')
        assert done.returncode == 0, done.stderr
        assert poll(lambda: started(tmp_path, "orphans left"), PATIENCE)
        assert poll(lambda: set(container.processes()) <= before, PATIENCE), container.processes()
        stop(container, 8.0)


def test_a_second_signal_hurries(broker_43: VirtualHost, place: Make, tmp_path: Path) -> None:
    """It passes process 1 as the first did."""
    here = place(broker_43, AMQPJOBS_SHUTDOWN_TIMEOUT="60")
    with here.running("consume", "work") as container:
        container.wait_for("worker is ready", timeout=60)
        enqueue(here, "hold", 1)
        assert poll(lambda: started(tmp_path), PATIENCE)
        container.signal(signal.SIGTERM)
        container.wait_for("stopping")
        container.signal(signal.SIGTERM)
        assert container.wait(PATIENCE) == 0


def test_a_worker_that_is_killed_ends_the_container(broker_43: VirtualHost, place: Make) -> None:
    """With the status by which engines know it, so that they start another."""
    with place(broker_43).running("consume", "work") as container:
        container.wait_for("worker is ready", timeout=60)
        (worker,) = set(container.processes()) - {container.first}
        os.kill(worker, signal.SIGKILL)
        assert container.wait(PATIENCE) == 128 + signal.SIGKILL
