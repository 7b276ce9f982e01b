"""All compiled code. Kernels read no files and know no objects, no generator of random numbers
either: arrays and numbers go in, arrays that the caller made are written to.

No kernel assigns an array to a part of an array: numba compiles text formatting for the message
about shapes that do not fit, which takes it several seconds.
"""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

from numba import config, njit

from cliff.kernels.cache import keep_on_disk

if config.DISABLE_JIT:  # type: ignore[attr-defined]
    warnings.warn(
        "NUMBA_DISABLE_JIT is set, but cliff's kernels have no form in plain Python: "
        "numba's compiler is switched on again in this process",
        RuntimeWarning,
        stacklevel=2,
    )
    config.DISABLE_JIT = 0  # type: ignore[attr-defined]


def entry(function: Callable[..., Any], fastmath: bool | set[str] = False) -> Any:
    """Compile a kernel that Python calls: cached on disk, and run without the interpreter's lock.

    The rule for sums (`fastmath`) is always stated, since a kernel without one takes the rule of
    whichever kernel it is compiled for first. Kernels that others call are inlined: of two copies
    of one kernel, the process that compiles would run another one than the processes that load
    the machine code from the disk, and rounding would tell them apart.
    """
    return keep_on_disk(njit(nogil=True, fastmath=fastmath, forceinline=True)(function))


# Sums may be reordered, which is what lets them use vector registers; NaN and infinity still
# behave as they should (no "nnan", no "ninf"), because training relies on seeing them.
compiled = partial(entry, fastmath={"reassoc", "contract", "nsz", "arcp"})
