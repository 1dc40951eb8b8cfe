"""Processes that a job forks: signals to them are theirs alone.

Each case runs in a program that was set up as a worker is, in a thread as plain jobs are, or on the
event loop. It prints what became of the child, and whether the program itself was told to stop.
"""

import subprocess
import sys
import textwrap

import pytest

from tests.support.programs import KEPT, ROOT

PROGRAM = """
import asyncio, concurrent.futures, multiprocessing, os, signal, subprocess, time, warnings
from amqpjobs.cli.ending import stop_by_signals

fork = multiprocessing.get_context("fork")

def status_of(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

{case}

async def main():
    loop = asyncio.get_running_loop()
    told = []
    stop_by_signals(lambda: told.append("told"), 60)
    loop.add_signal_handler(signal.SIGHUP, told.append, "hung up")
    print({call}, flush=True)
    await asyncio.sleep(0.2)
    print(told, flush=True)
    os._exit(0)

warnings.simplefilter("ignore")  # forking beside threads
with asyncio.Runner(loop_factory={loop}) as runner:
    runner.run(main())
"""

CASES = {
    "a process that is terminated": """
def case():
    process = fork.Process(target=time.sleep, args=(60,))
    process.start()
    process.terminate()
    process.join(20)
    return process.exitcode
""",
    "a pool that is terminated": """
def case():
    with fork.Pool(2) as pool:
        processes = list(pool._pool)
        assert pool.map(abs, [-1]) == [1]
    for process in processes:
        process.join(20)
    # Some see the end of the pool's pipe first, and end by themselves.
    ended = all(process.exitcode is not None for process in processes)
    return -15 if ended else "running"
""",
    "an executor's worker that is terminated": """
def case():
    executor = concurrent.futures.ProcessPoolExecutor(1, mp_context=fork)
    assert executor.submit(abs, -1).result() == 1
    process = next(iter(executor._processes.values()))
    os.kill(process.pid, signal.SIGTERM)
    process.join(20)
    executor.shutdown()
    return process.exitcode
""",
    "a fork": """
def case():
    pid = os.fork()
    if not pid:
        time.sleep(60)
        os._exit(3)
    os.kill(pid, signal.SIGTERM)
    return status_of(pid)
""",
    "a program with a function before it": """
def case():
    process = subprocess.Popen(["sleep", "60"], preexec_fn=lambda: time.sleep(0.2))
    process.terminate()
    return process.wait(20)
""",
}


def printed(case: str, call: str, loop: str) -> list[str]:
    code = PROGRAM.format(case=textwrap.dedent(case), call=call, loop=loop)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=KEPT, capture_output=True, text=True,
        timeout=50, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize("loop", ["None", "__import__('uvloop').Loop"], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_signal_to_a_child_ends_the_child_and_not_the_worker(case: str, loop: str) -> None:
    """SIGTERM, in a thread's job."""
    assert printed(case, "await asyncio.to_thread(case)", loop) == ["-15", "[]"]


@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP"])
def test_other_signals_have_their_usual_effect_in_a_child(name: str) -> None:
    """SIGINT is KeyboardInterrupt again; what the user gave the event loop is the worker's."""
    case = f"""
def case():
    pid = os.fork()
    if not pid:
        try:
            os.kill(os.getpid(), signal.{name})
            time.sleep(60)
        except KeyboardInterrupt:
            os._exit(7)
        os._exit(3)
    return status_of(pid)
"""
    expected = {"SIGINT": "7", "SIGHUP": "-1"}[name]
    assert printed(case, "case()", "None") == [expected, "[]"]


def test_a_handler_that_a_library_has_set_stays() -> None:
    """It is the child's as much as its parent's, as ever."""
    case = """
def case():
    pid = os.fork()
    if not pid:
        os.kill(os.getpid(), signal.SIGUSR1)
        os._exit(3)
    return status_of(pid)

signal.signal(signal.SIGUSR1, lambda *_: os._exit(9))
"""
    assert printed(case, "await asyncio.to_thread(case)", "None") == ["9", "[]"]
