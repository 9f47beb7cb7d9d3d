"""Putting away what killed processes left; what is published, or not ours, is never touched.

A living writer holds its files and directories, and what cannot be held is left alone.
"""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from store import artifacts, locks, runs
from store.errors import DamagedError, NewerFormatError
from store.files import check_hash, read_table, sync
from store.shards import COMMIT, commits, files, read_commit
from store.store import MARKER, Store

DELETED = ".deleted"
"""How the name of a run's directory ends once it is deleted, and not yet gone."""

_PART = re.compile(r"(\d{5,})\.(d\d+\.safetensors|prompts\.parquet|stats\.parquet)")


@dataclass(frozen=True, kw_only=True)
class Swept:
    """What a sweep did, by path inside the store."""

    adopted: list[str] = field(default_factory=list)
    """Commit records that were whole but for their last rename, and are published now."""
    removed: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    """What nobody claims and we do not know: look at it by hand."""
    busy: list[str] = field(default_factory=list)
    """What a living process holds."""


class Sweep:
    """One sweep through a store's directories."""

    def __init__(self, root: Path) -> None:
        self.root, self.done = root, Swept()

    def run(self, directory: Path) -> None:
        """Tidy a run whose directory is held: adopt or remove what was not yet published."""
        for path in sorted(directory.glob(f"*{COMMIT}.*.tmp")):
            self._adopt(directory, path)
        published = commits(directory)
        names = {path.name for path in published} | {runs.RUN, runs.END}
        try:
            for path in published:
                names |= {file.name for file in files(read_commit(path))}
            ending = runs.read_ending(directory)
        except (DamagedError, NewerFormatError):
            self._note(self.done.left, directory)  # whose files these are cannot be told
            return
        last = int(published[-1].name[: -len(COMMIT)]) if published else -1
        for path in sorted(directory.iterdir()):
            part = _PART.fullmatch(path.name)
            unpublished = part is not None and int(part[1]) > last and ending is None
            if path.name.endswith(".tmp") or (unpublished and path.name not in names):
                self._remove(path)
            elif path.name not in names:
                self._note(self.done.left, path)

    def artifact(self, directory: Path) -> None:
        """Tidy an artifact's directory, which is held."""
        if not (directory / artifacts.ARTIFACT).exists():
            self._drop(directory, {artifacts.ARRAYS})
            return
        for path in sorted(directory.iterdir()):
            if path.name.endswith(".tmp"):
                self._remove(path)
            elif path.name not in (artifacts.ARTIFACT, artifacts.ARRAYS):
                self._note(self.done.left, path)

    def directory(self, path: Path, home: str) -> None:
        """Tidy a directory among the runs or artifacts, unless someone holds it."""
        with self._held(path) as ours:
            if not ours:
                return
            if path.name.endswith(DELETED):
                shutil.rmtree(path)
                self._note(self.done.removed, path)
            elif home == "artifacts":
                self.artifact(path)
            elif (path / runs.RUN).exists():
                self.run(path)
            else:
                self._drop(path, set())

    def file(self, path: Path) -> None:
        """Remove a temporary file, unless someone holds it."""
        with self._held(path) as ours:
            if ours:
                self._remove(path)

    def _adopt(self, directory: Path, path: Path) -> None:
        """Give a commit record its name, if every byte of its shard is there and it is next."""
        number = len(commits(directory))
        target = directory / f"{number:05d}{COMMIT}"
        try:
            shard = read_commit(path)
            read_table(path)
            for file in files(shard):
                check_hash(directory, file)
        except (DamagedError, NewerFormatError):
            return
        if shard.shard == number and not (directory / runs.END).exists():
            path.rename(target)
            sync(directory)
            self._note(self.done.adopted, target)

    def _drop(self, directory: Path, known: set[str]) -> None:
        """Remove a directory that was never finished; foreign files in it keep it."""
        for path in sorted(directory.iterdir()):
            if path.name.endswith(".tmp") or path.name in known:
                self._remove(path)
        if any(directory.iterdir()):
            self._note(self.done.left, directory)
        else:
            directory.rmdir()
            self._note(self.done.removed, directory)

    def _remove(self, path: Path) -> None:
        path.unlink()
        self._note(self.done.removed, path)

    @contextmanager
    def _held(self, path: Path) -> Iterator[bool]:
        with locks.held(path) as ours:
            if not ours:
                self._note(self.done.busy, path)
            yield ours

    def _note(self, where: list[str], path: Path) -> None:
        where.append(str(path.relative_to(self.root)))


def sweep(store: Store) -> Swept:
    """Adopt or remove what killed processes left; raises UnwritableError when read-only."""
    root, work = store.writable(), Sweep(store.path)
    with locks.alone(store.catalog.file.with_suffix(".lock")):
        work.done.removed.extend(path.name for path in store.catalog.clear())
    for path in sorted([*root.glob(f"{MARKER}.*.tmp"), *(root / "results").glob("*.tmp")]):
        work.file(path)
    for home in ("runs", "artifacts"):
        for path in sorted((root / home).glob("*")):
            if path.is_dir() and runs.is_uuid(path.name.removesuffix(DELETED)):
                work.directory(path, home)
            else:
                work.done.left.append(str(path.relative_to(root)))
    return work.done
