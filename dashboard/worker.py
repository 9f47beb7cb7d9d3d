"""The one thread that owns the model: everyone else submits jobs to it and asks how they stand.

Clients take turns, so that nobody waits for all the jobs of someone busy. Knows no Dash.
"""

import logging
import queue
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from contextvars import Context, copy_context
from dataclasses import dataclass, replace
from typing import Any, Literal

from store import WorkbenchError
from store.records import unique

State = Literal["queued", "running", "done", "failed", "cancelled"]

Report = Callable[[str], None]
"""Called by a job to say, in a few words, what it is doing."""

Work = Callable[[Any, Report], Any]
"""A job: gets what the worker owns, and a way to report; returns the result."""

EXPECTED = (ValueError, LookupError, TypeError, FloatingPointError, WorkbenchError)
"""Errors whose sentence is written for the user; all others are also logged with their trace."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """How a job stands at one moment."""

    id: str
    client: str
    state: State = "queued"
    note: str = ""
    """What the job last reported."""
    ahead: int = 0
    """Jobs that will run before it, the running one included."""
    result: Any = None
    error: str | None = None
    """A sentence for the user, when it failed."""
    ended_at: float | None = None
    """Seconds on the worker's clock."""

    @property
    def over(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in ("done", "failed", "cancelled")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much a worker holds before it refuses or forgets."""

    queued: int = 64
    """Jobs that may wait, over all clients."""
    kept: int = 64
    """Ended jobs that are remembered, the newest."""
    seconds: float = 900.0
    """How long an ended job is remembered."""


class Worker:
    """A fair, bounded queue and one thread, which alone touches what it owns."""

    def __init__(
        self,
        owned: Any,
        *,
        limits: Limits = Limits(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start the thread. `owned` is what jobs get, usually a `Session`; close it afterwards."""
        self._owned, self._limits, self._clock = owned, limits, clock
        self._changed = threading.Condition()
        self._waiting: OrderedDict[str, deque[tuple[str, Work, Context]]] = OrderedDict()
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="workbench-model", daemon=True)
        self._thread.start()

    def submit(self, client: str, work: Work) -> str:
        """Queue a job behind its client's others and return its id.

        The job runs in a copy of the caller's context: a plan attached by the caller holds in it,
        and what the job itself sets is gone afterwards.

        Raises:
            queue.Full: too many jobs are waiting.
            ValueError: the worker is closed.
        """
        job = Job(id=unique(), client=client)
        with self._changed:
            if self._closed:
                raise ValueError("this worker is closed: start the dashboard again")
            self._forget()
            if sum(map(len, self._waiting.values())) >= self._limits.queued:
                raise queue.Full(
                    f"{self._limits.queued} jobs are already waiting for the model: try again "
                    "in a moment"
                )
            self._jobs[job.id] = job
            self._waiting.setdefault(client, deque()).append((job.id, work, copy_context()))
            self._changed.notify_all()
        return job.id

    def job(self, job_id: str) -> Job:
        """Say how a job stands.

        Raises:
            LookupError: there is no such job, or it was forgotten.
        """
        with self._changed:
            self._forget()
            if job_id not in self._jobs:
                raise LookupError(
                    f"no job {job_id[:8]}: the worker keeps the last {self._limits.kept} results "
                    f"for {self._limits.seconds:g} s; run it again"
                )
            found = self._jobs[job_id]
            ahead = self._ahead(job_id) if found.state == "queued" else 0
            return replace(found, ahead=ahead)

    def wait(self, job_id: str, timeout: float) -> Job:
        """Wait until a job is over, for at most `timeout` seconds, and say how it stands."""
        with self._changed:
            self._changed.wait_for(lambda: self.job(job_id).over, timeout)
        return self.job(job_id)

    def cancel(self, job_id: str) -> bool:
        """Take a waiting job out of the queue; False when it has begun, ended or is unknown."""
        with self._changed:
            for client, jobs in self._waiting.items():
                kept = deque(item for item in jobs if item[0] != job_id)
                if len(kept) < len(jobs):
                    self._replace(client, kept)
                    self._end(job_id, "cancelled")
                    return True
        return False

    def close(self) -> None:
        """Cancel what waits, wait for the running job, and end the thread; twice is harmless."""
        with self._changed:
            self._closed = True
            for jobs in self._waiting.values():
                for job_id, _, _ in jobs:
                    self._end(job_id, "cancelled")
            self._waiting.clear()
            self._changed.notify_all()
        self._thread.join()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _serve(self) -> None:
        while (taken := self._take()) is not None:
            job_id, work, context = taken
            try:
                result = context.run(work, self._owned, lambda note, i=job_id: self._note(i, note))
            except BaseException as error:  # the thread must outlive any job
                self._fail(job_id, error)
            else:
                with self._changed:
                    self._end(job_id, "done", result=result)
            # Not held until the next job comes: results may be large.
            del taken, work, context

    def _take(self) -> tuple[str, Work, Context] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._waiting)
            if self._closed:
                return None
            client, jobs = next(iter(self._waiting.items()))
            taken = jobs.popleft()
            # Whoever was served goes to the end of the line.
            self._waiting.move_to_end(client)
            self._replace(client, jobs)
            self._jobs[taken[0]] = replace(self._jobs[taken[0]], state="running")
            self._changed.notify_all()
            return taken

    def _replace(self, client: str, jobs: deque[tuple[str, Work, Context]]) -> None:
        if jobs:
            self._waiting[client] = jobs
        else:
            del self._waiting[client]

    def _note(self, job_id: str, note: str) -> None:
        with self._changed:
            self._jobs[job_id] = replace(self._jobs[job_id], note=note)
            self._changed.notify_all()

    def _fail(self, job_id: str, error: BaseException) -> None:
        sentence = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
        if not isinstance(error, EXPECTED):
            logging.getLogger(__name__).error("a job of the dashboard failed", exc_info=error)
            sentence = f"{type(error).__name__}: {sentence}"
        with self._changed:
            self._end(job_id, "failed", error=sentence)

    def _end(
        self, job_id: str, state: State, *, result: Any = None, error: str | None = None
    ) -> None:
        # Taken out and put back, so that ended jobs stand in the order in which they ended.
        job = self._jobs.pop(job_id)
        self._jobs[job_id] = replace(
            job, state=state, result=result, error=error, ended_at=self._clock()
        )
        self._changed.notify_all()

    def _forget(self) -> None:
        ended = [job for job in self._jobs.values() if job.ended_at is not None]
        since = self._clock() - self._limits.seconds
        surplus = len(ended) - self._limits.kept
        for i, job in enumerate(ended):
            if i < surplus or (job.ended_at or 0.0) < since:
                del self._jobs[job.id]

    def _ahead(self, job_id: str) -> int:
        """Play the turns through: how many jobs come before this one."""
        running = sum(job.state == "running" for job in self._jobs.values())
        lines = [[item[0] for item in jobs] for jobs in self._waiting.values()]
        turns = [
            one for turn in range(max(map(len, lines))) for line in lines for one in line[turn:][:1]
        ]
        return running + turns.index(job_id)
