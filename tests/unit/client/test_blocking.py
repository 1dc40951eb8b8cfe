"""`app.blocking()` in processes that are forked while it is open, as web servers fork.

Each case is a program of its own, with the embedded broker in it. It prints what the queue holds.
"""

import subprocess
import sys
import textwrap

import pytest

from tests.support.programs import KEPT, ROOT

PROGRAM = """
import asyncio, atexit, concurrent.futures, logging, multiprocessing, os, threading, time, warnings
from amqpjobs import App
from amqpjobs.broker.embedded import Broker
from amqpjobs.broker.embedded.thread import LoopThread
from amqpjobs.settings import load_settings

warnings.simplefilter("ignore")  # forking beside threads
fork = multiprocessing.get_context("fork")
serving = LoopThread("broker")
serving.__enter__()
broker = Broker("4.3", port=0)
serving.run(broker.__aenter__())
app = App("forked", settings=load_settings(url=broker.url, publish_timeout=5))

@app.job(queue="numbers")
async def number(n: int) -> None: ...

def waiting():
    async def count():
        async with app.lifespan():
            wire = await (await app.client.publisher()).link.up()
            channel = await wire.channel()
            found = await channel.queue_declare("numbers", passive=True)
            return found.message_count
    return asyncio.run(count())

def send(n):
    client.later(number.message(n))

def status_of(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

{body}
"""

CASES = {
    "multiprocessing": """
with app.blocking() as client:
    send(0)
    process = fork.Process(target=send, args=(1,))
    process.start()
    process.join(20)
    send(2)
    print(process.exitcode, waiting())
""",
    "an executor": """
with app.blocking() as client:
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=fork) as executor:
        list(executor.map(send, range(2)))
    send(2)
    print(0, waiting())
""",
    "a server that forks, and its workers' threads": """
client = app.blocking().__enter__()
pid = os.fork()
if not pid:
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        list(threads.map(send, range(2)))
    raise SystemExit(0)
status = status_of(pid)
send(2)
print(status, waiting())
os._exit(0)
""",
    "a fork in the middle of the block": """
with app.blocking() as client:
    send(0)
    pid = os.fork()
    send(1)
if not pid:
    raise SystemExit(0)
print(status_of(pid), waiting())
""",
    "a fork while another thread opens": """
app.client.runtime.registry.check = lambda: time.sleep(0.3)
with app.blocking() as client:
    if not (pid := os.fork()):
        opening = threading.Thread(target=send, args=(0,))
        opening.start()
        while (lock := client._opening.get(os.getpid())) is None or not lock.locked():
            pass
        if not (grandchild := os.fork()):
            send(1)
            os._exit(0)
        opening.join()
        os._exit(status_of(grandchild))
    status = status_of(pid)
    send(2)
    print(status, waiting())
""",
}


def printed(body: str) -> str:
    """What the program prints; it ends well, and complains of nothing."""
    code = PROGRAM.format(body=textwrap.dedent(body))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=KEPT, capture_output=True, text=True,
        timeout=40, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("body", CASES.values(), ids=CASES.keys())
def test_a_process_that_is_forked_has_a_connection_of_its_own(body: str) -> None:
    """Two jobs are published by parents and one by a child, or the other way round; all end."""
    assert printed(body) == "0 3"


def test_a_child_that_does_not_use_it_ends_at_once() -> None:
    """Its parent's thread is not there, and is not waited for."""
    body = """
    with app.blocking() as client:
        began = time.monotonic()
        if not (pid := os.fork()):
            raise SystemExit(0)
        print(status_of(pid), time.monotonic() - began < 5)
    """
    assert printed(body) == "0 True"


def test_a_client_that_nobody_closes_is_closed_at_exit() -> None:
    """Within a bound, though the broker does not answer any more."""
    body = """
    client = app.blocking().__enter__()
    send(1)
    logging.disable()  # aiormq's, of what it does not hear
    serving._loop.call_soon_threadsafe(time.sleep, 60)
    atexit.register(lambda: print(client._portal._thread.is_alive()))
    atexit.register(client._portal._close_at_exit)
    atexit.register(print, "ending")
    """
    assert printed(body) == "ending\nFalse"
