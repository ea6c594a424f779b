"""Run benchmarks: `python -m tests.benchmarks [NAME ...]`, all of them by default.

A benchmark is a module of this package named `bench_NAME.py` with a function `main()`.
"""

from __future__ import annotations

import importlib
import os
import platform
import sys
from pathlib import Path


def main() -> int:
    """Run the named benchmarks, or all; 2 for a name that there is not."""
    available = sorted(path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py"))
    wanted = sys.argv[1:] or available
    for name in wanted:
        if name not in available:
            print(f"error: no benchmark {name!r}; there are: {', '.join(available)}", file=sys.stderr)
            return 2
    print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores")
    for name in wanted:
        importlib.import_module(f"tests.benchmarks.bench_{name}").main()
    return 0


if __name__ == "__main__":
    sys.exit(main())
