"""`deploy/compose.yaml` as it is read: anchors resolved, and defaults for its variables."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.support.programs import ROOT

FILE = ROOT / "deploy/compose.yaml"

CACHE = Path(os.environ.get("AMQPJOBS_CACHE") or "~/.cache/amqpjobs").expanduser()
CLIENT = CACHE / "containers/compose/usr/libexec/docker/cli-plugins/docker-compose"
"""Compose itself, which `deploy/ci/containers.sh` fetches."""

OURS = ("topology", "migrate", "web", "thumbnails", "recorder")
"""The services that are our image."""

VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")


def composed(text: str | None = None) -> dict[str, Any]:
    """What is in it."""
    filled = VARIABLE.sub(lambda found: found[2], FILE.read_text() if text is None else text)
    read: dict[str, Any] = yaml.safe_load(filled)
    return read


def by_the_client(file: Path = FILE, *options: str) -> "subprocess.CompletedProcess[str]":
    """What Compose makes of it; it asks no engine for that."""
    return subprocess.run(
        [CLIENT, "--file", file, *options, "config", "--format", "json"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def seconds(duration: str) -> float:
    """Of a duration as Compose writes it."""
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
    return sum(float(n) * units[unit] for n, unit in re.findall(r"([\d.]+)(ms|s|m|h)", duration))
