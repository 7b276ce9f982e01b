"""Random numbers as a function of a counter: the generator Philox4x64-10.

A number depends on its place alone, so that a simulation's noise does not depend on the order in
which its parts are computed. NumPy's `numpy.random.Philox` gives the same words.

References
----------
.. [1] J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random numbers: as easy as 1,
   2, 3", SC 2011.
"""

import math

import numpy as np
from numba import njit

_MULTIPLIERS = np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157)
_INCREMENTS = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)
_LOW, _HALF, _ROUNDS = np.uint64(0xFFFFFFFF), np.uint64(32), 10


@njit
def _high_word(a, b):
    """The upper 64 bits of the product of two words."""
    a_low, a_high, b_low, b_high = a & _LOW, a >> _HALF, b & _LOW, b >> _HALF
    middle = a_high * b_low + (a_low * b_low >> _HALF)
    carried = a_low * b_high + (middle & _LOW)
    return a_high * b_high + (middle >> _HALF) + (carried >> _HALF)


@njit
def words(counter, key):
    """Four words of 64 random bits for a counter of four words and a key of two."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        high_0, low_0 = _high_word(_MULTIPLIERS[0], c0), _MULTIPLIERS[0] * c0
        high_1, low_1 = _high_word(_MULTIPLIERS[1], c2), _MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = high_1 ^ c1 ^ k0, low_1, high_0 ^ c3 ^ k1, low_0
        k0, k1 = k0 + _INCREMENTS[0], k1 + _INCREMENTS[1]
    return c0, c1, c2, c3


@njit
def normal(seed, trajectory, step, component):
    """A standard normal number for every seed, trajectory, step and component.

    By the Box–Muller transform of two of the words, one for the radius and one for the angle.
    """
    counter = np.uint64(step), np.uint64(trajectory), np.uint64(component), np.uint64(0)
    radius, angle, _, _ = words(counter, (np.uint64(seed), np.uint64(0)))
    uniform = (np.float64(radius >> np.uint64(11)) + 1.0) * 2.0**-53  # from (0, 1]
    turn = np.float64(angle >> np.uint64(11)) * 2.0**-53
    return math.sqrt(-2.0 * math.log(uniform)) * math.cos(2.0 * math.pi * turn)
