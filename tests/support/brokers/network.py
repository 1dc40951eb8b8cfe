"""Network namespaces without names: a network of a test's own, of which the machine sees nothing.

A namespace lives as long as a process in it, and its links and bridges live as long as it does. So
whatever ends those processes removes the network with them, and nothing is left to clean up.
"""

import ctypes
import os
import select
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tests.support.brokers.broker_guard import Guard

CLONE_NEWNET: Final = 0x40000000
"""Of setns(2); Python has it from 3.12 on."""

_C: Final = ctypes.CDLL(None, use_errno=True)

START_TIMEOUT: Final = 10.0


class NoNetworkError(Exception):
    """This machine lets nobody make a network namespace, or a link in one."""


class Namespace:
    """A network namespace, held by a process that does nothing else."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        script = "ip link set lo up && echo up && exec sleep infinity"
        try:
            self._holder = subprocess.Popen(
                ["unshare", "--net", "--", "sh", "-c", script],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise _no_network(str(error)) from error
        guard.kill_at_end(self._holder.pid)
        assert self._holder.stdout is not None
        said = b""
        if select.select([self._holder.stdout], [], [], START_TIMEOUT)[0]:
            said = self._holder.stdout.readline()
        self._holder.stdout.close()
        if said != b"up\n":
            self.end()
            raise _no_network(said.decode(errors="replace").strip())

    @property
    def pid(self) -> int:
        """Of the process that holds it, which `ip link ... netns PID` takes for a name."""
        return self._holder.pid

    @property
    def held(self) -> bool:
        """Whether its process is there."""
        return self._holder.poll() is None

    def command(self, *command: str) -> list[str]:
        """The command that runs this one inside."""
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net", "--", *command]

    def ip(self, *arguments: str) -> None:
        """Run ip(8) inside."""
        done = subprocess.run(
            self.command("ip", *arguments), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise _no_network(f"ip {' '.join(arguments)}: {done.stderr.strip()}")

    @contextmanager
    def entered(self) -> Iterator[None]:
        """This thread is inside: so are its sockets, and the processes that it starts."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            there = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY)
            try:
                _enter(there)
            finally:
                os.close(there)
            try:
                yield
            finally:
                _enter(before)
        finally:
            os.close(before)

    def end(self) -> None:
        """Let it go; it is gone when no other process is inside."""
        self._holder.kill()
        self._holder.wait(10.0)
        self._guard.forget(self.pid)


def _enter(descriptor: int) -> None:
    if _C.setns(descriptor, CLONE_NEWNET):
        raise _no_network(f"setns: {os.strerror(ctypes.get_errno())}")


def _no_network(problem: str) -> NoNetworkError:
    return NoNetworkError(
        "The tests of a cluster give each node a network namespace, and this machine makes none: "
        f"{problem or 'no answer'}. Run them as root with iproute2 and util-linux installed, in a "
        "container with --cap-add NET_ADMIN --cap-add SYS_ADMIN, or leave them out with "
        '-m "not cluster"'
    )
