"""What ``torch.compile`` needs of a machine."""

from __future__ import annotations

import os
from shutil import which

from teramind_data.errors import InputError

__all__ = ["check_compiler"]

_WANTED = {"cpu": ("C++", "CXX", ("g++", "clang++", "c++")), "cuda": ("C", "CC", ("gcc", "clang", "cc"))}


def check_compiler(device: str) -> None:
    """InputError where this machine has no compiler for what ``torch.compile`` makes for a type of device.

    On a CPU that is C++; on a GPU Triton builds what starts its kernels, in C.
    """
    language, variable, commands = _WANTED["cuda" if device != "cpu" else "cpu"]
    if not (os.environ.get(variable) or any(which(command) for command in commands)):
        raise InputError(
            f"--compile needs a {language} compiler",
            expected=f"{variable}, {', '.join(commands[:-1])} or {commands[-1]}",
            found="none",
            remedy="Install one, or leave it out",
        )
