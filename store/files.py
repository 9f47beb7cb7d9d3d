"""Immutable files that appear whole or not at all: temporary name, fsync, rename, fsync again."""

import io
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from store import locks
from store.errors import DamagedError, UnwritableError

READ_ONLY = 0o444


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """What a published file must be."""

    name: str
    """Name inside its directory."""
    bytes: int
    xxh3: str
    """64-bit xxh3 of the whole file, in hexadecimal."""


class Hashing:
    """A binary file that counts and hashes what passes through."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._hash, self.size = file, xxhash.xxh3_64(), 0

    def write(self, data: bytes | memoryview) -> None:
        """Write all of it."""
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)

    def record(self, name: str) -> FileRecord:
        """Say what has been written."""
        return FileRecord(name=name, bytes=self.size, xxh3=self._hash.hexdigest())


def publish(path: Path, fill: Callable[[Hashing], None], *, keep_name: bool = True) -> FileRecord:
    """Write a file that nobody sees before it is complete and on disk.

    Without `keep_name` the caller makes the names durable, of several files at once (`sync`).

    Raises UnwritableError when disk or permissions refuse; then nothing of it is left.
    """
    temporary = path.with_name(f"{path.name}.{uuid4().hex[:8]}.tmp")
    with writing(path):
        try:
            with locks.temporary(temporary) as file:
                hashing = Hashing(file)
                fill(hashing)
                file.flush()
                os.fchmod(file.fileno(), READ_ONLY)
                os.fsync(file.fileno())
                temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        if keep_name:
            sync(path.parent)
    return hashing.record(path.name)


def publish_json(path: Path, value: Mapping[str, Any]) -> FileRecord:
    """Publish a mapping as JSON."""
    text = json.dumps(value, ensure_ascii=False, indent=1)
    return publish(path, lambda file: file.write(text.encode()))


def publish_table(path: Path, table: pa.Table, *, keep_name: bool = True) -> FileRecord:
    """Publish an Arrow table as Parquet with page checksums; as `publish`."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
    return publish(path, lambda file: file.write(buffer.getbuffer()), keep_name=keep_name)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file; raises DamagedError when it is none, or missing."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise damaged(path, "it is missing") from error
    except ValueError as error:
        raise DamagedError(f"{path} is not JSON: restore it from a copy, or remove it") from error
    if not isinstance(value, dict):
        raise DamagedError(f"{path} holds no mapping: restore it from a copy, or remove it")
    return value


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a Parquet file, checking its pages; raises DamagedError when they do not agree."""
    try:
        return pq.read_table(path, columns=columns, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise damaged(path, str(error).splitlines()[0]) from error


def check_size(directory: Path, file: FileRecord) -> Path:
    """Return the file's path; raises DamagedError when it is missing or of another size.

    Must come before every mapping: reading a truncated map kills the process (SIGBUS).
    """
    path = directory / file.name
    size = path.stat().st_size if path.exists() else None
    if size != file.bytes:
        raise damaged(path, f"it has {'no' if size is None else size} bytes, not {file.bytes}")
    return path


def check_hash(directory: Path, file: FileRecord) -> None:
    """Read the whole file; raises DamagedError unless every byte is as it was written."""
    found = record_of(check_size(directory, file))
    if found.xxh3 != file.xxh3:
        raise damaged(directory / file.name, f"its xxh3 is {found.xxh3}, not {file.xxh3}")


def record_of(path: Path) -> FileRecord:
    """Read the whole file and say what it is."""
    found, size = xxhash.xxh3_64(), 0
    with path.open("rb") as opened:
        while block := opened.read(1 << 22):
            found.update(block)
            size += len(block)
    return FileRecord(name=path.name, bytes=size, xxh3=found.hexdigest())


def damaged(path: Path, why: str) -> DamagedError:
    """Word the error for a published file that is not as it was."""
    return DamagedError(f"{path} is damaged: {why}; restore it from a copy, or capture it again")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a refusal of the operating system into one clear sentence."""
    try:
        yield
    except OSError as error:
        raise UnwritableError(
            f"cannot write {path}: {error.strerror or error}; nothing of it was kept. "
            "Free space or allow writing there, then repeat"
        ) from error


def sync(directory: Path) -> None:
    """Make the names in a directory durable."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
