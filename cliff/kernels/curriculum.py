"""The evaluation of a stage of a curriculum: its own gradient, the loss of the target."""

import numpy as np

from cliff.kernels.generated import address_of_kernel, advanced, evaluate_at

N_OUT = 5
"""Entries that an evaluation of the nested logit writes."""


def stage(theta, constants, want, work, out):
    """Evaluate the stage's gradient, and with want = 1 the target's loss in place of the stage's.

    The row of constants is the address of the nested logit's evaluation, the length of the target's
    row, that row, and the stage's row.
    """
    address = np.intp(constants[0])
    target = advanced(constants, 2)
    rest = advanced(work, N_OUT)
    evaluate_at(address, theta, advanced(target, np.intp(constants[1])), 0, rest, out)
    if want != 0:
        evaluate_at(address, theta, target, 1, rest, work)
        out[0] = work[0]


def stage_address():
    """Address of `stage` as a C function."""
    return address_of_kernel(stage)
