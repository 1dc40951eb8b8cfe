"""Names that Kubernetes takes, from those of apps, queues and jobs. Changes when its rules do.

Where they come from: https://kubernetes.io/docs/concepts/overview/working-with-objects/names/
"""

import hashlib
import json
import re

LONGEST = 52
"""Characters. A CronJob adds eleven for each of its Jobs, which may have 63 like most others
(https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/)."""

LONGEST_PREFIX = 24
"""Characters of an app's name in front of all others."""

HASH = 8
"""Hexadecimal digits."""


def prefix_of(app: str) -> str:
    """What the names of all objects of an app begin with: a letter first, as a Service needs it."""
    plain = _plain(app)[:LONGEST_PREFIX].strip("-")
    if not plain:
        return f"app-{hash_of(app)}"
    return plain if plain[0].isalpha() else f"app-{plain}"


def name_of(prefix: str, kind: str, thing: str) -> str:
    """The name of an object: small letters, digits and single hyphens, 52 characters at most.

    Two things have two names, whatever they are called: where a name had to be changed or cut, it
    ends with a hash of the whole. So it is the same in every release, whatever else there is.
    """
    wanted = f"{prefix}-{kind}-{thing}"
    plain = _plain(wanted)
    if plain == wanted and len(plain) <= LONGEST:
        return plain
    return f"{plain[: LONGEST - HASH - 1].strip('-')}-{hash_of(prefix, kind, thing)}"


def hash_of(*parts: str) -> str:
    """Eight digits that the same parts always give."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:HASH]


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
