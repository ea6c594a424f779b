"""A dask.distributed cluster on loopback, as processes of their own, for tests of what runs on one."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_START_S = 60.0


@contextmanager
def dask_cluster(folder: Path, workers: int = 2) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """The address of a scheduler, and its workers (one thread each, none replaced when it dies)."""
    file = folder / "scheduler.json"
    run = [sys.executable, "-m", "dask"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
    where = ["--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file), "--no-dashboard"]
    processes = [subprocess.Popen([*run, "scheduler", *where], **quiet)]  # type: ignore[call-overload]
    try:
        end = time.monotonic() + _START_S
        while not file.exists() and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(0.2)
        address = json.loads(file.read_text())["address"]
        worker = [*run, "worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
        for _ in range(workers):
            processes.append(subprocess.Popen(worker, **quiet))  # type: ignore[call-overload]
        yield address, processes[1:]
    finally:
        for process in processes:
            process.kill()
            process.wait()
