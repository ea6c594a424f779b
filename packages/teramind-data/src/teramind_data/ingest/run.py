"""Where units of work run: in this process, in a pool of processes, or on a dask.distributed cluster.

A task is a picklable callable of one item. It writes whole files or whole shards and nothing else, always the same
bytes, so that it may run twice, anywhere, in any order: a worker that dies costs time only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any, Protocol, TypeVar

from teramind_data.errors import InputError, TeramindError
from teramind_data.ingest.memory import give_back_freed

T = TypeVar("T")
R = TypeVar("R")

_RESTARTS = 3  # of a pool, before a task is blamed that kills its process
_QUEUED = 2  # tasks a worker has before it at most: the rest stays with the driver


class WorkerError(TeramindError, RuntimeError):
    """Worker processes die, or no worker can be reached."""


class Runner(Protocol):
    """Runs a task for every item; results come as they are done."""

    def map(self, task: Callable[[T], R], items: Iterable[T]) -> Iterator[tuple[T, R]]:
        """Items with their results, in any order. The first error ends it."""
        ...


class Serial:
    """One after the other, here."""

    def map(self, task: Callable[[T], R], items: Iterable[T]) -> Iterator[tuple[T, R]]:
        """Items with their results, in order."""
        for item in items:
            give_back_freed()
            yield item, task(item)


def _end_with_parent() -> None:
    """In a worker: end when the driver does, however it ended.

    A pool's workers hold both ends of its pipes, so that without this those of a killed driver would wait forever,
    or go on writing into a store that the next run continues.
    """
    import multiprocessing
    import os
    import threading

    driver = multiprocessing.parent_process()
    if driver is None:
        return

    def watch() -> None:
        driver.join()
        os._exit(1)

    threading.Thread(target=watch, name="driver", daemon=True).start()


class Pool:
    """Processes of this machine; a dead one is replaced and its task repeated."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._pool = self._start()

    def _start(self) -> ProcessPoolExecutor:
        import multiprocessing

        # Not fork: libraries with threads of their own would hang in the child.
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self.workers, mp_context=context, initializer=_end_with_parent)

    def map(self, task: Callable[[T], R], items: Iterable[T]) -> Iterator[tuple[T, R]]:
        """Items with their results as they are done."""
        left = iter(items)
        again: deque[T] = deque()
        running: dict[Future[R], T] = {}
        for restarts in range(_RESTARTS + 1):
            broken = False
            while not broken:
                broken = self._fill(task, chain(_popped(again), left), running, again)
                if not running:
                    break
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    item = running.pop(future)
                    try:
                        result = future.result()
                    except BrokenProcessPool:
                        broken = True
                        again.append(item)
                    else:
                        yield item, result
            if not broken:
                return
            again.extend(running.values())
            running.clear()
            if restarts < _RESTARTS:
                self._pool.shutdown(cancel_futures=True)
                self._pool = self._start()
        raise WorkerError(
            "worker processes die",
            expected=f"at most {_RESTARTS} deaths in a step",
            found=_RESTARTS + 1,
            remedy="Give each less (--memory) or use fewer (--workers); run again to continue",
        )

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
        """End the processes; what was not begun is dropped."""
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
            self._client: Any = Client(address, timeout=20, set_as_default=False)
        except (OSError, ValueError) as error:
            raise WorkerError(
                "scheduler cannot be reached",
                where=address,
                found=f"{type(error).__name__}: {error}",
                remedy="Start one (dask scheduler) and its workers, and give its address",
            ) from error

    def map(self, task: Callable[[T], R], items: Iterable[T]) -> Iterator[tuple[T, R]]:
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
            future = next(pending)
            item = running.pop(future.key)
            yield item, future.result()
            fill()

    def close(self) -> None:
        """Leave the cluster as it is."""
        self._client.close()


@contextmanager
def runner(workers: int = 1, scheduler: str | None = None) -> Iterator[Runner]:
    """The runner for ``workers`` processes (1: this one), or for a scheduler's address."""
    if workers < 1:
        raise InputError("number of workers is not usable", expected="at least 1", found=workers)
    if scheduler is None and workers == 1:
        yield Serial()
        return
    remote = Pool(workers) if scheduler is None else Cluster(scheduler)
    try:
        yield remote
    finally:
        remote.close()
