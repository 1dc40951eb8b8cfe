"""The album's page with all that it needs but RabbitMQ: one worker, and the web tier in front.

``python -m examples.photo_album.serve``, until Ctrl-C; its arguments go to ``amqpjobs web``. These
are the two commands that a deployment would run, each in a container of its own.
"""

import os
import signal
import subprocess
import sys

from amqpjobs.demo.photographs import PhotographsMissing
from amqpjobs.demo.web import ALBUM
from examples.photo_album.photographs import find_photographs
from examples.photo_album.workers import APP, ROOT, WorkerProcess

WEB = ("web", "--app", APP, "--asgi", "amqpjobs.demo.web:api")


def main() -> int:
    """Run both until the web tier ends; its exit status."""
    try:
        here = os.pathsep.join(map(str, find_photographs()))
        os.environ.setdefault("ALBUM_PHOTOGRAPHS", here)
    except PhotographsMissing as missing:
        print(f"photo album: nothing to choose from, only to upload: {missing}", file=sys.stderr)
    ALBUM.mkdir(parents=True, exist_ok=True)
    worker = WorkerProcess(1, ALBUM / "worker-1.log")
    web = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-m", "amqpjobs", *WEB, *sys.argv[1:]], cwd=ROOT
    )
    try:
        return web.wait()
    except KeyboardInterrupt:
        web.terminate()
        return web.wait()
    finally:
        worker.stop()


if __name__ == "__main__":
    # Ended by SIGTERM, too, it stops both.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
