"""Writing behind compute: a thread that writes what is handed to it while whoever made it makes the next."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

__all__ = ["WriteBehind"]


class WriteBehind:
    """A scope in which jobs are done by a thread beside it, one after the other, in the order they are handed over.

    The thread has one job at most: who hands over the next waits until the one before is done, so what is made and not
    written is bounded. The error of a job is raised, as it is, where the giver next looks (:meth:`put`, :meth:`check`,
    the end of the scope); nothing is begun after it. However the scope ends, Ctrl-C included, the job in hand is done
    first: it is work that need not be made again. Jobs must be safe to kill all the same.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="write-behind")
        self._in_hand: Future[None] | None = None

    def put(self, job: Callable[[], None]) -> None:
        """Hand over a job when the one before is done; its error is raised instead where it failed."""
        self._finish()
        self._in_hand = self._thread.submit(job)

    def check(self) -> None:
        """Raise the error of a job that failed; does not wait."""
        if self._in_hand is not None and self._in_hand.done():
            self._finish()

    def _finish(self) -> None:
        if self._in_hand is not None:
            self._in_hand.result()
            self._in_hand = None

    def __enter__(self) -> WriteBehind:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(wait=True)
        if error is None:
            self._finish()
        elif self._in_hand is not None and (other := self._in_hand.exception()) not in (None, error):
            error.add_note(f"Writing failed, too: {type(other).__name__}: {other}")
