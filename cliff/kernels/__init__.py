"""All compiled code. Kernels read no files and know no objects, no generator of random numbers
either: arrays and numbers go in, arrays that the caller made are written to.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from numba import njit


def entry(function: Callable[..., Any], fastmath: bool | set[str] = False) -> Any:
    """Compile a kernel that Python calls: cached on disk, and run without the interpreter's lock.

    numba drops a cached kernel when the file that it stands in changes, and does not see a change
    in the files of the kernels that it calls. Here all files of this folder and its own count.
    The rule for sums is always said, since a kernel without one takes that of whichever kernel it
    is compiled for first.
    """
    dispatcher: Any = njit(cache=True, nogil=True, fastmath=fastmath)(function)
    folders = {Path(__file__).parent, Path(function.__code__.co_filename).parent}
    files = sorted(file for folder in folders for file in folder.glob("*.py"))
    stamps = [(str(file), file.stat().st_mtime, file.stat().st_size) for file in files]
    dispatcher._cache._cache_file._source_stamp = stamps
    return dispatcher


# Sums may be reordered, which is what lets them use vector registers; NaN and infinity still
# behave as they should (no "nnan", no "ninf"), because training relies on seeing them.
compiled = partial(entry, fastmath={"reassoc", "contract", "nsz", "arcp"})
