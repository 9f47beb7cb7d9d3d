"""A run's directory: run.json comes first, end.json last; how people name runs and artifacts."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from store import locks
from store.errors import DamagedError, NewerFormatError
from store.files import FileRecord, publish_json, read_json, sync, writing
from store.records import Artifact, Fingerprint, Run, now
from store.shards import FORMAT, Place
from store.sites import Site

RUN, END = "run.json", "end.json"

Record = TypeVar("Record", Run, Artifact)


@dataclass(frozen=True, kw_only=True)
class Opening:
    """What is known of a run before its first row."""

    run: Run
    sites: Mapping[Site, int]
    """Width of each site; the order gives the numbers that SQL calls site_id."""
    shard_rows: int


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a run ended; a run without one is still open, or its process was killed."""

    status: str
    """sealed or failed."""
    error: str | None = None
    n_rows: int
    commits: tuple[FileRecord, ...]
    """The commit record of every shard."""
    at: datetime = field(default_factory=now)


@dataclass(frozen=True, kw_only=True)
class Begun:
    """Where a writer goes on, and its hold on the run's directory."""

    handle: int
    """Closing it lets go."""
    place: Place
    commits: tuple[FileRecord, ...] = ()


def start(directory: Path, opening: Opening) -> Begun:
    """Create a run's directory; raises ValueError when there is one, UnwritableError."""
    with writing(directory):
        directory.parent.mkdir(exist_ok=True)
        try:
            handle = locks.make(directory)
        except FileExistsError:
            raise ValueError(
                f"run {directory.name} exists: leave its uuid out to get a new one, or resume it"
            ) from None
        sync(directory.parent)
    try:
        publish_json(
            directory / RUN,
            {
                "format": FORMAT,
                **plain(opening.run),
                "shard_rows": opening.shard_rows,
                "sites": [{"site": str(site), "d": d} for site, d in opening.sites.items()],
            },
        )
    except BaseException:
        with suppress(OSError):
            directory.rmdir()
        os.close(handle)
        raise
    return Begun(handle=handle, place=Place(run=directory.name))


def end(directory: Path, ending: Ending) -> None:
    """Publish how a run ended; raises UnwritableError."""
    at = ending.at.isoformat()
    publish_json(directory / END, {"format": FORMAT, **asdict(ending), "at": at})


def read_opening(directory: Path) -> Opening:
    """Read a run's provenance; raises NewerFormatError or DamagedError."""
    found = checked(directory / RUN)
    try:
        sites = {Site.parse(item["site"]): item["d"] for item in found.pop("sites")}
        return Opening(sites=sites, shard_rows=found.pop("shard_rows"), run=Run(**_values(found)))
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedError(f"{directory / RUN} is no run: {error}; restore it") from error


def read_ending(directory: Path) -> Ending | None:
    """Read how a run ended, if it has."""
    if not (directory / END).exists():
        return None
    found = checked(directory / END)
    try:
        records = tuple(FileRecord(**item) for item in found.pop("commits"))
        at = datetime.fromisoformat(found.pop("at"))
        return Ending(**found, commits=records, at=at)
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedError(f"{directory / END} is no ending: {error}; restore it") from error


def checked(path: Path) -> dict[str, Any]:
    """Read one of our JSON files without its format; raises NewerFormatError or DamagedError."""
    found = read_json(path)
    version = found.pop("format", None)
    if not isinstance(version, int):
        raise DamagedError(f"{path} names no format: restore it from a copy, or remove it")
    if version > FORMAT:
        raise NewerFormatError(
            f"{path} has format {version} and this program reads up to {FORMAT}: upgrade it"
        )
    return found


def plain(record: Run | Artifact) -> dict[str, Any]:
    """Turn a record into what JSON can hold."""
    return {**asdict(record), "created_at": record.created_at.isoformat()}


def to_artifact(found: Mapping[str, Any]) -> Artifact:
    """Turn JSON back into a record."""
    return Artifact(**_values(found))


def directories(parent: Path, marker: str) -> Iterator[Path]:
    """List the directories that are complete: called by a UUID and holding the marker file."""
    if parent.is_dir():
        for path in sorted(parent.iterdir()):
            if is_uuid(path.name) and (path / marker).exists():
                yield path


def is_uuid(text: str) -> bool:
    """Tell whether a text is a UUID in its usual form."""
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def resolve(ref: str, records: Sequence[Record], kind: str) -> Record:
    """Find the record that a reference means: latest, a name (its newest), or a UUID prefix.

    Raises LookupError naming what there is.
    """
    text = ref.removeprefix(f"{kind}:")
    newest = sorted(records, key=lambda record: record.created_at, reverse=True)
    found = newest[:1] if text == "latest" else [item for item in newest if item.name == text][:1]
    found = found or [item for item in newest if text and item.uuid.startswith(text)]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(f"{item.uuid[:8]} ({item.name or 'unnamed'})" for item in found or newest)
    if found:
        raise LookupError(f"{kind} {text!r} is ambiguous: write more of one of {listed}")
    raise LookupError(
        f"no {kind} {text!r}: there {'are ' + listed if listed else 'is none yet'}; "
        "write latest, a name, or the beginning of a uuid"
    )


def _values(found: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **found,
        "fingerprint": Fingerprint(**found["fingerprint"]),
        "created_at": datetime.fromisoformat(found["created_at"]),
    }
