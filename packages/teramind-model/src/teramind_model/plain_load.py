"""Files of ``torch.save`` from strangers: tensors and plain values are read, nothing else is unpickled."""

from __future__ import annotations

import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import torch

from teramind_data.errors import InputError

__all__ = ["load_plain"]


def load_plain(file: Path, what: str, remedy: str) -> Any:
    """A file of ``torch.save`` that holds tensors and plain values; nothing else is unpickled.

    Raises:
        InputError: saying ``what`` and ``remedy``, where the file is damaged, or holds anything else.
    """
    try:
        with warnings.catch_warnings():
            # What is wrong with the file is said below, once.
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # Not torch's own words: they advise loading it unsafely.
        named = re.search(r"GLOBAL (\S+)", str(error))
        found = f"an object of {named[1]}" if named else "something else"
        raise InputError(what, file, "tensors and plain values", found, remedy) from None
    except (RuntimeError, EOFError, OSError, KeyError, IndexError, TypeError, ValueError) as error:
        # What torch says of a file that is damaged or no such file at all.
        found = (str(error).splitlines() or [""])[0].partition(". ")[0]
        raise InputError(what, file, found=f"{type(error).__name__} {found}".strip(), remedy=remedy) from None
