"""All compiled code. Kernels draw no random numbers, read no files and know no objects: float64,
C-contiguous arrays go in, arrays that the caller made are written to.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit

_SOURCES = sorted(Path(__file__).parent.glob("*.py"))


def entry(function: Callable[..., Any]) -> Any:
    """Compile a kernel that Python calls: cached on disk, and run without the interpreter's lock.

    numba drops a cached kernel when the file that it stands in changes, and does not see a change
    in the files of the kernels that it calls. Here all of this folder's files count.
    """
    dispatcher: Any = njit(cache=True, nogil=True)(function)
    stamps = [(file.name, file.stat().st_mtime, file.stat().st_size) for file in _SOURCES]
    dispatcher._cache._cache_file._source_stamp = stamps
    return dispatcher
