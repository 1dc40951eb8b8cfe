"""`consume --processes` and `--reload`: a parent that keeps its children running."""

import os
import signal
from pathlib import Path

from tests.support.brokers.broker_server import VirtualHost, poll
from tests.support.programs import Ledger, Program, command, environment, running


def child_pids(program: Program) -> set[int]:
    """The processes whose parent it is."""
    return {
        int(p) for p in Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text().split()
    }


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_child_that_is_killed_is_replaced(broker: VirtualHost, tmp_path: Path) -> None:
    """Two children share the work; one dies, its job runs in another, and there are two again."""
    env = environment(broker.url, tmp_path)
    ledger = Ledger(env)
    arguments = ("consume", "work", "--processes", "2", "--concurrency", "1", "--prefetch", "1")
    with running(*arguments, env=env) as parent:
        parent.wait_for("worker is ready", times=2)
        children = child_pids(parent)
        assert len(children) == 2
        for n in range(2):
            assert command("enqueue", "hold", "--args", str(n), env=env).returncode == 0
        ledger.wait_for("started", [0, 1])
        assert {line["pid"] for line in ledger.lines} == children
        killed = ledger.lines[0]["pid"]
        os.kill(killed, signal.SIGKILL)
        parent.wait_for("worker process died, starting another", signal="SIGKILL")
        parent.wait_for("worker is ready", times=3)
        ledger.go()
        ledger.wait_for("done", [0, 1])
        assert poll(lambda: len(child_pids(parent)) == 2, 10)
        assert killed not in child_pids(parent)
        parent.signal(signal.SIGINT)
        assert parent.wait() == 0
    assert parent.errors == ""


def test_each_child_has_a_heartbeat_of_its_own(broker_43: VirtualHost, tmp_path: Path) -> None:
    """One that is stuck is not covered by its neighbour, nor by what an earlier run has left."""
    heartbeat = tmp_path / "heartbeat"
    (tmp_path / "heartbeat.7").write_text("1 ok\n")
    env = environment(broker_43.url, tmp_path, AMQPJOBS_HEARTBEAT_FILE=str(heartbeat))
    with running("consume", "work", "--processes", "2", env=env) as parent:
        parent.wait_for("worker is ready", times=2)
        assert poll(lambda: command("health", "--strict", env=env).returncode == 0, 20)
        assert {path.name for path in tmp_path.glob("heartbeat*")} == {"heartbeat.0", "heartbeat.1"}
        healthy = command("health", env=env)
        assert healthy.stdout.count("healthy: ok") == 2
        stuck = int((tmp_path / "heartbeat.1").read_text().split()[0])
        os.kill(stuck, signal.SIGSTOP)
        try:
            assert poll(lambda: command("health", "--max-age", "7", env=env).returncode == 1, 30)
            done = command("health", "--max-age", "7", env=env)
            assert "heartbeat.1 was touched" in done.stderr
        finally:
            os.kill(stuck, signal.SIGCONT)
    assert not list(tmp_path.glob("heartbeat*"))


def test_children_do_not_outlive_a_parent_that_is_killed(
    broker: VirtualHost, tmp_path: Path
) -> None:
    """Nobody would tell them to stop, and the next parent would start as many again."""
    env = environment(broker.url, tmp_path)
    with running("consume", "work", "--processes", "2", env=env) as parent:
        parent.wait_for("worker is ready", times=2)
        children = child_pids(parent)
        parent.kill()
        try:
            assert poll(lambda: not any(alive(pid) for pid in children), 10)
        finally:
            for pid in children:
                if alive(pid):
                    os.kill(pid, signal.SIGKILL)


def test_a_parent_ends_when_no_child_can_start(broker_43: VirtualHost, tmp_path: Path) -> None:
    """What no restart fixes is said once, with its exit status: the queue's name, the login."""
    env = environment(broker_43.url, tmp_path)
    wrong = command("consume", "nowhere", "--processes", "2", env=env, timeout=30)
    assert wrong.returncode == 2
    assert "nowhere" in wrong.stderr
    refused = environment(broker_43.url.replace("guest:guest", "guest:hunter2"), tmp_path)
    login = command("consume", "work", "--processes", "2", env=refused, timeout=30)
    assert login.returncode == 3
    assert "refused the login" in login.stderr
    assert "hunter2" not in login.stdout + login.stderr


APP = """
from amqpjobs import App
app = App("reloading")

@app.job(queue="work")
async def say(n: int) -> None:
    with open("said", "a") as file:
        file.write(f"{VERSION} {{n}}\\n")
"""


def test_reload_restarts_the_worker_when_a_file_changes(
    broker_43: VirtualHost, tmp_path: Path
) -> None:
    """The next job runs the new code; a file that does not even compile is waited out."""
    env = environment(broker_43.url, tmp_path, AMQPJOBS_APP="reloading:app")
    module, said = tmp_path / "reloading.py", tmp_path / "said"
    module.write_text(APP.replace("{VERSION}", "first").replace("{{n}}", "{n}"))

    def run(n: int, expected: str) -> None:
        done = command("enqueue", "say", "--args", str(n), env=env, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert poll(lambda: said.exists() and f"{expected} {n}\n" in said.read_text(), 20)

    with running("consume", "--reload", env=env, cwd=tmp_path) as parent:
        parent.wait_for("worker is ready")
        run(1, "first")
        module.write_text(APP.replace("{VERSION}", "second").replace("{{n}}", "{n}"))
        parent.wait_for("files changed, restarting")
        parent.wait_for("worker is ready", times=2)
        run(2, "second")
        module.write_text("this is no Python\n")
        parent.wait_for("files changed, restarting", times=2)
        assert poll(lambda: "its import failed" in parent.errors, 20)
        module.write_text(APP.replace("{VERSION}", "third").replace("{{n}}", "{n}"))
        parent.wait_for("worker is ready", times=3)
        run(3, "third")
