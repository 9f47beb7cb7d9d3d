"""The worker: one thread, fair turns, bounded, and nothing of one job reaches another."""

import queue
import threading
from contextvars import ContextVar
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard.worker import Limits, Worker

SECONDS = 20
MARK: ContextVar[str] = ContextVar("mark", default="nothing")


class Gate:
    """A job that holds the worker until it is opened, so that a queue can form behind it."""

    def __init__(self, worker: Worker) -> None:
        self._open, noted = threading.Event(), threading.Event()

        def hold(_: Any, report: Any) -> None:
            report("holding")
            noted.set()
            assert self._open.wait(SECONDS)

        self.job = worker.submit("gate", hold)
        assert noted.wait(SECONDS)

    def open(self) -> None:
        """Let the worker go on."""
        self._open.set()


def test_every_job_runs_on_one_thread_that_is_not_the_callers() -> None:
    with Worker("model") as worker:
        jobs = [worker.submit("a", lambda *_: threading.get_ident()) for _ in range(3)]
        seen = {worker.wait(job, SECONDS).result for job in jobs}
    assert len(seen) == 1 and threading.get_ident() not in seen


def test_a_job_gets_what_the_worker_owns_and_returns_its_result() -> None:
    with Worker("model") as worker:
        job = worker.wait(worker.submit("a", lambda owned, _: owned + "!"), SECONDS)
    assert (job.state, job.result, job.error) == ("done", "model!", None)


@settings(max_examples=25, deadline=None)
@given(clients=st.lists(st.sampled_from("abc"), max_size=12))
def test_clients_take_turns_and_each_ones_jobs_keep_their_order(clients: list[str]) -> None:
    order: list[int] = []
    with Worker(order) as worker:
        gate = Gate(worker)
        jobs = [
            worker.submit(client, lambda seen, _, i=i: seen.append(i))
            for i, client in enumerate(clients)
        ]
        told = {i: worker.job(job).ahead for i, job in enumerate(jobs)}
        gate.open()
        for job in jobs:
            worker.wait(job, SECONDS)
    assert order == _in_turns(clients)
    # The gate was running, so the first of the queue had one job ahead.
    assert told == {i: place + 1 for place, i in enumerate(order)}


def _in_turns(clients: list[str]) -> list[int]:
    lines = {c: [i for i, one in enumerate(clients) if one == c] for c in dict.fromkeys(clients)}
    out: list[int] = []
    while any(lines.values()):
        out += [line.pop(0) for line in lines.values() if line]
    return out


def test_a_running_job_says_what_it_does() -> None:
    with Worker(None) as worker:
        gate = Gate(worker)
        job = worker.wait(gate.job, 0.0)
        assert (job.state, job.note, job.over) == ("running", "holding", False)
        gate.open()


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ValueError("no such thing"), "no such thing"),
        (KeyError("no such key"), "no such key"),
        (ZeroDivisionError("by nought"), "ZeroDivisionError: by nought"),
        (SystemExit(3), "SystemExit: 3"),
    ],
    ids=["ours", "key", "unexpected", "exit"],
)
def test_a_failing_job_gives_a_sentence_and_the_next_one_runs(
    error: BaseException, sentence: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise error

    with Worker(None) as worker:
        job = worker.wait(worker.submit("a", fail), SECONDS)
        assert worker.wait(worker.submit("a", lambda *_: 7), SECONDS).result == 7
    assert (job.state, job.error) == ("failed", sentence)
    assert bool(caplog.records) == (": " in sentence), "only the unexpected is logged"


def test_a_job_sees_its_callers_context_and_leaves_nothing_in_the_next() -> None:
    def look_and_set(*_: Any) -> str:
        seen = MARK.get()
        MARK.set("left behind")
        return seen

    with Worker(None) as worker:
        token = MARK.set("mine")
        first = worker.submit("a", look_and_set)
        MARK.reset(token)
        second = worker.submit("a", look_and_set)
        assert worker.wait(first, SECONDS).result == "mine"
        assert worker.wait(second, SECONDS).result == "nothing"
    assert MARK.get() == "nothing"


def test_a_waiting_job_can_be_cancelled_and_a_running_one_cannot() -> None:
    ran: list[str] = []
    with Worker(ran) as worker:
        gate = Gate(worker)
        waiting = worker.submit("a", lambda seen, _: seen.append("cancelled"))
        kept = worker.submit("a", lambda seen, _: seen.append("kept"))
        assert worker.cancel(waiting) and not worker.cancel(waiting)
        assert not worker.cancel(gate.job) and not worker.cancel("unknown")
        assert worker.job(waiting).state == "cancelled"
        gate.open()
        worker.wait(kept, SECONDS)
    assert ran == ["kept"]


def test_a_full_queue_refuses_and_has_room_again_once_jobs_are_taken() -> None:
    with Worker(None, limits=Limits(queued=2)) as worker:
        gate = Gate(worker)
        jobs = [worker.submit(client, lambda *_: None) for client in "ab"]
        with pytest.raises(queue.Full, match="2 jobs are already waiting"):
            worker.submit("c", lambda *_: None)
        worker.cancel(jobs[0])
        jobs.append(worker.submit("c", lambda *_: None))
        gate.open()
        assert worker.wait(jobs[-1], SECONDS).state == "done"


def test_only_the_newest_results_are_kept() -> None:
    with Worker(None, limits=Limits(kept=2)) as worker:
        jobs = [worker.submit("a", lambda *_, i=i: i) for i in range(4)]
        worker.wait(jobs[-1], SECONDS)
        assert [worker.job(job).result for job in jobs[2:]] == [2, 3]
        for job in jobs[:2]:
            with pytest.raises(LookupError, match=f"no job {job[:8]}: the worker keeps the last 2"):
                worker.job(job)


def test_results_are_forgotten_after_a_while_but_waiting_jobs_are_not() -> None:
    now = [0.0]
    with Worker(None, limits=Limits(seconds=10), clock=lambda: now[0]) as worker:
        ended = worker.submit("a", lambda *_: 1)
        worker.wait(ended, SECONDS)
        gate = Gate(worker)
        waiting = worker.submit("a", lambda *_: 2)
        now[0] = 11
        assert worker.job(waiting).state == "queued"
        with pytest.raises(LookupError, match="for 10 s"):
            worker.job(ended)
        gate.open()
        assert worker.wait(waiting, SECONDS).result == 2


def test_closing_cancels_what_waits_and_finishes_what_runs() -> None:
    worker = Worker(None)
    gate = Gate(worker)
    waiting = worker.submit("a", lambda *_: None)
    closing = threading.Thread(target=worker.close)
    closing.start()
    assert worker.wait(waiting, SECONDS).state == "cancelled"
    gate.open()
    closing.join(SECONDS)
    worker.close()
    assert worker.job(gate.job).state == "done"
    with pytest.raises(ValueError, match="this worker is closed"):
        worker.submit("a", lambda *_: None)
