"""OpenTelemetry's own instrumentation of aio-pika, active in the same process."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.support.programs import ROOT
from tests.support.pypi import folder_of

HERE = Path(__file__).parent


def test_nothing_is_doubled_where_aio_pika_is_instrumented(url: str) -> None:
    """What we send and receive does not go through what it wraps; what the program itself does
    with aio-pika has its spans, and a job goes on from there."""
    packages = folder_of(HERE / "instrumentation.txt")
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.telemetry.instrumented", url],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{packages}"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ours, more = json.loads(done.stdout)
    expected = ["ack work", "process work", "publish work"] * 4 + ["request work"]
    assert ours == sorted(expected)
    assert more == [",work send", "ack work", "process work"]
