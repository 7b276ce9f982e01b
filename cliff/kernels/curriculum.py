"""The evaluation of a stage of a curriculum: its own gradient, the loss of the target."""

from numba import njit

from cliff.kernels.generated import _advanced, address_of_kernel
from cliff.kernels.nested_logit import evaluation

_nested_logit = njit(evaluation)
N_OUT = 5


def stage(theta, constants, want, work, out):
    """Evaluate the stage's gradient, and with want = 1 the target's loss in place of the stage's.

    The row of constants is the length of the target's row, that row, and the stage's row.
    """
    own = _advanced(constants, 1 + int(constants[0]))
    rest = _advanced(work, N_OUT)
    _nested_logit(theta, own, 0, rest, out)
    if want != 0:
        _nested_logit(theta, _advanced(constants, 1), 1, rest, work)
        out[0] = work[0]


def stage_address():
    """Address of `stage` as a C function."""
    return address_of_kernel(stage)
