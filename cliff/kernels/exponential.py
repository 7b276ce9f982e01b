"""exp for softmax: in float32, a loop over it runs in vector registers."""

import numpy as np
from numba import types
from numba.extending import overload

from cliff.kernels import entry

LOWEST = -87.0
"""Below, exp(x) would soon have fewer digits in float32, and then none."""


def exp(x):
    """exp(x) for x <= 0 or NaN; in float32 to one unit in the last place, and 0 below `LOWEST`."""
    raise NotImplementedError("for compiled functions")


@overload(exp)
def _exp(x):
    if x == types.float32:
        return lambda x: _exp_single(x)
    return lambda x: np.exp(x)


@entry  # sums in the order in which they are written, since they make up for rounding
def _exp_single(x):
    """Cephes' expf: x = k log 2 + r, a polynomial in r, and k into the exponent's bits."""
    real = np.float32
    lowest, shifter = real(LOWEST), real(1.5 * 2**23)  # adding it rounds to an integer
    shifted = (lowest if x < lowest else x) * real(1 / np.log(2)) + shifter
    k = shifted - shifter
    r = (x - k * real(0.693359375)) + k * real(2.12194440e-4)
    p = real(1.9875691500e-4)
    p = p * r + real(1.3981999507e-3)
    p = p * r + real(8.3334519073e-3)
    p = p * r + real(4.1665795894e-2)
    p = p * r + real(1.6666665459e-1)
    p = p * r + real(5.0000001201e-1)
    p = p * (r * r) + r + real(1)
    power = (np.float32(shifted).view(np.int32) << np.int32(23)) + np.int32(0x3F800000)
    return real(0) if x < lowest else p * np.int32(power).view(np.float32)
