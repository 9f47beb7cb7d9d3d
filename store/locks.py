"""Who is at work on a file or directory: advisory locks that the system frees when one dies.

A sweep may remove only what it can lock, so it never takes a living writer's files.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from store.errors import BusyError


@contextmanager
def alone(path: Path, *, patience: float = 60.0) -> Iterator[None]:
    """Hold a lock file exclusively, among threads and processes.

    Raises BusyError after `patience` seconds, and OSError when the file cannot be made.
    """
    with path.open("ab") as file:
        deadline = time.monotonic() + patience
        while not _locked(file.fileno()):
            if time.monotonic() > deadline:
                raise BusyError(f"{path} has been held for {patience:g} s: find who holds it")
            time.sleep(0.01)
        yield


@contextmanager
def held(path: Path) -> Iterator[bool]:
    """Hold a file or directory, if nobody else does, and say whether we do."""
    handle = os.open(path, os.O_RDONLY)
    try:
        yield _locked(handle)
    finally:
        os.close(handle)


@contextmanager
def temporary(path: Path) -> Iterator[IO[bytes]]:
    """Create a file that stays held while it is being written."""
    while True:
        with path.open("xb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if path.exists():  # a sweep may have come between creating and locking it
                yield file
                return


def make(directory: Path) -> int:
    """Create a directory and hold it; returns the handle, whose closing lets go.

    Raises FileExistsError when it is there already.
    """
    while True:
        directory.mkdir()
        handle = os.open(directory, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX)
        if directory.exists():  # a sweep may have come between creating and locking it
            return handle
        os.close(handle)


def take(directory: Path) -> int:
    """Hold a directory that exists; returns the handle. Raises BusyError when another does."""
    handle = os.open(directory, os.O_RDONLY)
    if _locked(handle):
        return handle
    os.close(handle)
    raise BusyError(
        f"{directory} is being written by another process or thread: wait until it ends"
    )


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
