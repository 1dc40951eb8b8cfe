"""Keys of an AsyncAPI document: what it allows in one, and no two the same.

Changes when AsyncAPI allows something else in a key.
"""

import re
from collections.abc import Collection, Iterable, Mapping


def distinct(wanted: Mapping[str, str], taken: Iterable[str] = ()) -> dict[str, str]:
    """A key for each.

    Args:
        wanted: the key that each would have, by its name.
        taken: keys that others have.
    """
    keys: dict[str, str] = {}
    others = list(taken)
    for name, key in wanted.items():
        keys[name] = free(key, (*others, *keys.values()))
    return keys


def free(name: str, taken: Collection[str]) -> str:
    """The key for a name that is not taken: its own, or one with a number."""
    key = plain = re.sub(r"[^A-Za-z0-9._-]", "_", name)
    number = 1
    while key in taken:
        number += 1
        key = f"{plain}_{number}"
    return key
