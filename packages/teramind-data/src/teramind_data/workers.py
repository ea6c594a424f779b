"""Where units of work run: in this process, in a pool of processes, or on a dask.distributed cluster.

A task is a picklable callable of one item. It writes whole files or whole shards and nothing else, always the same
bytes, so that it may run twice, anywhere, in any order: a worker that dies costs time only.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any, Protocol, TypeVar

from teramind_data.console import note
from teramind_data.errors import InputError, TeramindError
from teramind_data.heap import give_back_freed

T = TypeVar("T")
R = TypeVar("R")

_RESTARTS = 3  # of a pool with no task done between them, before a task is blamed that kills its process
_QUEUED = 2  # tasks a worker has before it at most: the rest stays with the driver
_GLANCE_S = 0.02  # between looks at what a cluster has done
_REFILL_S = 5.0
_CONNECT_S = 20.0
_LOOK_S = 2.0  # between looks at whether to go on


def _go_on() -> None:
    """Nothing is in the way."""


class WorkerError(TeramindError, RuntimeError):
    """Worker processes die, or no worker can be reached."""


class Runner(Protocol):
    """Runs a task for every item; results come as they are done."""

    def map(
        self, task: Callable[[T], R], items: Iterable[T], check: Callable[[], None] = _go_on
    ) -> Iterator[tuple[T, R]]:
        """Items with their results, in any order. The first error ends it; ``check`` is called every few seconds."""
        ...


class Serial:
    """One after the other, here."""

    def map(
        self, task: Callable[[T], R], items: Iterable[T], check: Callable[[], None] = _go_on
    ) -> Iterator[tuple[T, R]]:
        """Items with their results, in order; ``check`` is called between them."""
        for item in items:
            check()
            give_back_freed()
            yield item, task(item)


#: Where this worker process works, where its pool gave it a place.
_place: str | None = None


def place() -> str | None:
    """The place of this process among those of its pool (a device, say); None where its pool has none."""
    return _place


def _begin(places: Any) -> None:
    """In a worker: take a place, and end when the driver does, however it ended.

    A pool's workers hold both ends of its pipes, so that without this those of a killed driver would wait forever,
    or go on writing into a store that the next run continues.
    """
    import multiprocessing
    import os
    import threading

    global _place
    _place = None if places is None else places.get()
    driver = multiprocessing.parent_process()
    if driver is None:
        return

    def watch() -> None:
        driver.join()
        os._exit(1)

    threading.Thread(target=watch, name="driver", daemon=True).start()


class Pool:
    """Processes of this machine; a dead one is replaced and its task repeated.

    Args:
        workers: how many.
        places: one for each where they are to work in different places; see :func:`place`.
    """

    def __init__(self, workers: int, places: Sequence[str] = ()) -> None:
        self.workers = workers
        self._places = tuple(places)
        self._running: dict[Future[Any], Any] = {}
        self._pool = self._start()

    def _start(self) -> ProcessPoolExecutor:
        import multiprocessing

        # Not fork: libraries with threads of their own would hang in the child.
        context = multiprocessing.get_context("spawn")
        places = context.SimpleQueue()
        for name in self._places:
            places.put(name)
        return ProcessPoolExecutor(
            self.workers, mp_context=context, initializer=_begin, initargs=(places if self._places else None,)
        )

    def map(
        self, task: Callable[[T], R], items: Iterable[T], check: Callable[[], None] = _go_on
    ) -> Iterator[tuple[T, R]]:
        """Items with their results as they are done."""
        left = iter(items)
        again: deque[T] = deque()
        running: dict[Future[R], T] = {}
        self._running = running
        deaths = 0  # since a task was last done
        while True:
            broken = self._fill(task, chain(_popped(again), left), running, again)
            if not broken and not running:
                return
            check()
            done = set() if broken else wait(running, _LOOK_S, FIRST_COMPLETED).done
            for future in done:
                item = running.pop(future)
                try:
                    result = future.result()
                except BrokenProcessPool:
                    broken = True
                    again.append(item)
                else:
                    deaths = 0
                    yield item, result
            if broken:
                again.extend(running.values())
                running.clear()
                deaths += 1
                self._restart(deaths)

    def _restart(self, deaths: int) -> None:
        """A new pool for one of which a process died; WorkerError where that happens again and again."""
        if deaths > _RESTARTS:
            raise WorkerError(
                "worker processes die",
                expected=f"at most {_RESTARTS} deaths in a row",
                found=deaths,
                remedy="Give each less (--memory) or use fewer (--workers); run again to continue",
            )
        note(
            f"a worker process died; what it was doing is done again ({deaths} of {_RESTARTS} deaths in a row)"
        )
        self._pool.shutdown(cancel_futures=True)
        self._pool = self._start()

    def _fill(
        self, task: Callable[[T], R], items: Iterator[T], running: dict[Future[R], T], again: deque[T]
    ) -> bool:
        """Hand out work; whether the pool turned out to be broken (the item in hand is put back)."""
        while len(running) < _QUEUED * self.workers:
            taken = list(islice(items, 1))
            if not taken:
                return False
            try:
                running[self._pool.submit(task, taken[0])] = taken[0]
            except BrokenProcessPool:
                again += taken
                return True
        return False

    def close(self) -> None:
        """End the processes; what was not begun is dropped, and what is in hand after an error, too."""
        if any(not future.done() for future in self._running):
            # They may have hours to go. The executor has no public way before Python 3.14.
            for process in list((self._pool._processes or {}).values()):
                process.terminate()
        self._pool.shutdown(cancel_futures=True)


def _popped(queue: deque[T]) -> Iterator[T]:
    """The items of a queue, each taken off it as it is given."""
    while queue:
        yield queue.popleft()


class Cluster:
    """Workers of a dask.distributed scheduler. They need this package and the same paths; one thread each is best."""

    def __init__(self, address: str) -> None:
        try:
            from distributed import Client
        except ImportError:
            raise InputError(
                "dask.distributed is not installed", remedy="Install distributed, or use --workers"
            ) from None
        try:
            self._client: Any = Client(address, timeout=_CONNECT_S, set_as_default=False)
        except (OSError, ValueError) as error:
            raise WorkerError(
                "scheduler cannot be reached",
                where=address,
                found=f"{type(error).__name__}: {error}",
                remedy="Start one (dask scheduler) and its workers, and give its address",
            ) from error

    def map(
        self, task: Callable[[T], R], items: Iterable[T], check: Callable[[], None] = _go_on
    ) -> Iterator[tuple[T, R]]:
        """Items with their results as they are done; tasks of dead workers are repeated by the scheduler."""
        from distributed import as_completed

        left = iter(items)
        running: dict[str, T] = {}
        pending = as_completed([], loop=self._client.loop)

        def fill() -> None:
            room = _QUEUED * max(1, sum(self._client.ncores().values())) - len(running)
            for item in islice(left, max(0, room)):
                future = self._client.submit(task, item, pure=False, retries=_RESTARTS)
                running[future.key] = item
                pending.add(future)

        fill()
        while running:
            looked = time.monotonic()
            while not pending.has_ready():
                time.sleep(_GLANCE_S)
                if time.monotonic() - looked > _REFILL_S:
                    check()
                    fill()  # workers that came meanwhile want work, too
                    looked = time.monotonic()
            future = next(pending)
            item = running.pop(future.key)
            yield item, self._result(future)
            fill()

    def _result(self, future: Any) -> Any:
        """A future's result; WorkerError where the cluster lost it, as against an error of the task's own."""
        from distributed import CancelledError, KilledWorker

        try:
            return future.result()
        except (KilledWorker, CancelledError) as error:
            raise WorkerError(
                "workers of the cluster die, or its scheduler did",
                where=self._client.scheduler.address if self._client.scheduler else None,
                found=f"{type(error).__name__}: {error}",
                remedy="Look at the workers' logs (memory, most often); run again to continue",
            ) from error

    def ask(self, question: Callable[[], R]) -> dict[str, R]:
        """What ``question`` answers on each worker that is there now, by the worker's address; waits for the first."""
        if not self._client.ncores():
            note("the scheduler has no workers yet; waiting for the first")
            self._client.wait_for_workers(1)
        answers: dict[str, R] = self._client.run(question)
        return answers

    def close(self) -> None:
        """Leave the cluster as it is."""
        self._client.close()


@contextmanager
def runner(workers: int = 1, scheduler: str | None = None, places: Sequence[str] = ()) -> Iterator[Runner]:
    """The runner for ``workers`` processes (1: this one), for one process in each of ``places``, or for a scheduler's
    address."""
    if workers < 1:
        raise InputError("number of workers is not usable", expected="at least 1", found=workers)
    if scheduler is None and workers == 1 and not places:
        yield Serial()
        return
    remote = Cluster(scheduler) if scheduler is not None else Pool(len(places) or workers, places)
    try:
        yield remote
    finally:
        remote.close()
