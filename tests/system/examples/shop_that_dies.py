"""The web tier of the example shop, in a process that is killed at a commit: when it is on the
disk, and nothing has been published."""

import os
import signal
from pathlib import Path

from sqlalchemy import event
from sqlalchemy.orm import Session

from examples.shop.web import api

__all__ = ["api"]


@event.listens_for(Session, "after_commit")
def die(_: Session) -> None:
    """Once the test has said so."""
    if Path(os.environ["SHOP_DIES"]).exists():
        os.kill(os.getpid(), signal.SIGKILL)
