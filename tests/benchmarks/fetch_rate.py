"""What `teramind-data fetch` costs a gigabyte: CPU seconds of its process against a server on loopback.

    python -m tests.benchmarks.fetch_rate [MEGABYTES]

The server is Python's and shares the machine, so wall seconds say little of a network; CPU seconds say whether the
client could be what is slow. First a download with a published md5, then the same once more (nothing to do), then
``--verify``.
"""

from __future__ import annotations

import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tests.data.fetch.server import serving


def cpu_of_children() -> float:
    """CPU seconds of all processes waited for so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Print one line a step."""
    size = int(sys.argv[1] if len(sys.argv) > 1 else 1000) * 1_000_000
    data = np.random.Generator(np.random.Philox(key=3)).bytes(size)
    with serving() as server, tempfile.TemporaryDirectory() as folder:
        server.put("/data.bin", data)
        digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
        address = f"{server.url}/data.bin#md5={digest}"
        for step, more in (("download", ()), ("again", ()), ("verify", ("--verify",))):
            words = [sys.executable, "-m", "teramind_data.cli", "fetch", address, folder, "--yes", *more]
            begin, cpu = time.perf_counter(), cpu_of_children()
            subprocess.run(words, check=True, capture_output=True)
            line = {
                "step": step,
                "GB": size / 1e9,
                "wall_s": round(time.perf_counter() - begin, 2),
                "cpu_s": round(cpu_of_children() - cpu, 2),
            }
            print(json.dumps(line))
        assert (Path(folder) / "data.bin").stat().st_size == size


if __name__ == "__main__":
    main()
