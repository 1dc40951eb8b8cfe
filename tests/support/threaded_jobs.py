"""The jobs of `tests.support.jobs`, in a program with a thread that does not end: some library's,
which the interpreter would wait for at its exit."""

import threading

from tests.support.jobs import app as app

threading.Thread(target=threading.Event().wait, name="a library's").start()
