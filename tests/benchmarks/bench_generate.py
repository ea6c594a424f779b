"""Generation beside the published loop, small and on the CPU; `python -m tests.benchmarks.generate` has the rest."""

from __future__ import annotations

import torch

from teramind_model.network import NetworkConfig
from tests.benchmarks.generate import Options, benchmark


def main() -> None:
    """An eighth of the main network's width: some seconds a contestant."""
    network = NetworkConfig(genes=229, channels=8, gene_widths=(16, 8, 4), time_width=64, dropout=0.0)
    benchmark(
        Options(
            network=network,
            device=torch.device("cpu"),
            canvas=(256, 256),
            steps=2,
            rounds=2,
            budget=90,
            by="wall",
            dtype=torch.float32,
        )
    )


if __name__ == "__main__":
    main()
