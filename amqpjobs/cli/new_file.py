"""A new file for jobs that leave the broker. Changes when such a file is kept otherwise."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from amqpjobs.errors import ConfigurationError


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file that is not there yet, for its owner alone: jobs may contain what is secret.

    Its name is safe on the disk before anything is written to it.

    Raises:
        ConfigurationError: it is there, and may hold jobs that are nowhere else; or its folder
            cannot be written to.
    """
    try:
        file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
    except FileExistsError:
        raise ConfigurationError(f"{str(path)!r} is there already: give a new file") from None
    except OSError as error:
        raise ConfigurationError(f"{str(path)!r} cannot be written: {error.strerror}") from None
    with file:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        yield file
