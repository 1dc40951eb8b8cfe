"""Who is connected to what, by /proc."""

from pathlib import Path


def connected(pid: int, port: int | None) -> bool:
    """Whether a process has a connection to that port of this machine."""
    try:
        rows = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
        inodes = {link.readlink().name for link in Path(f"/proc/{pid}/fd").iterdir()}
    except OSError:
        return False
    assert port is not None
    wanted = f":{port:04X}"
    return any(
        row.split()[2].endswith(wanted) and f"socket:[{row.split()[9]}]" in inodes for row in rows
    )
