"""Counts what the workers of one framework have handled, in however many processes they are.

Each process writes its own file every 50 ms, in a thread: the driver adds them up.
"""

import json
import os
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from protocol import Order

URL, QUEUE = os.environ["BENCH_URL"], os.environ["BENCH_QUEUE"]
PREFETCH = int(os.environ["BENCH_PREFETCH"])
FOLDER = Path(os.environ["BENCH_FOLDER"])
EVERY = 0.05

_lock = threading.Lock()
_first = _last = _cpu = _cpu_at_first = 0.0
_count = _checksum = 0


def handle(order: Order) -> None:
    """The handler's whole work."""
    global _first, _last, _count, _checksum, _cpu, _cpu_at_first
    with _lock:
        _last = time.time()
        if not _count:
            _first = _last
            _cpu_at_first = time.process_time()
            threading.Thread(target=_write_again_and_again, daemon=True).start()
        _count += 1
        if not _count % 100:
            _cpu = time.process_time() - _cpu_at_first
        _checksum += order.order_id


def _write_again_and_again() -> None:
    place = FOLDER / str(os.getpid())
    while True:
        with _lock:
            line = {"first": _first, "last": _last, "count": _count, "checksum": _checksum,
                    "cpu": _cpu}  # fmt: skip
        place.with_suffix(".new").write_text(json.dumps(line))
        place.with_suffix(".new").rename(place.with_suffix(".json"))
        time.sleep(EVERY)
