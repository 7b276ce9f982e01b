"""Normal numbers in float32 from random bits."""

import numpy as np

from cliff.kernels import compiled


@compiled
def add_normals(words, scale, first, second):
    """Add independent normal numbers, computed from random bits by the Box-Muller transform.

    Two words of 32 bits give two numbers. The second word gives the radius, the first word the
    direction: an angle below π/4, a reflection about the diagonal and two signs. The logarithm is a
    polynomial from the Cephes library, sine and cosine are Taylor polynomials, with errors of a few
    units in the last place of float32. The largest possible number is 6.6 standard deviations.
    NumPy's own float32 normals take five times as long. `words` are 2 n of uint32; the first number
    of each pair, times `scale`, is added to `first`, (n,), and the second one to `second`.
    """
    real = np.float32
    for i in range(words.size // 2):
        uniform = (real(np.int32(words[2 * i + 1] >> np.uint32(1))) + real(0.5)) * real(2.0**-31)
        # uniform = (1 + m) 2^exponent with 1 + m between sqrt(1/2) and sqrt(2)
        image = np.float32(uniform).view(np.int32)
        exponent = (image - np.int32(0x3F3504F3)) >> np.int32(23)
        m = np.int32(image - (exponent << np.int32(23))).view(np.float32) - real(1)
        p = real(7.0376836292e-2)
        p = p * m - real(1.1514610310e-1)
        p = p * m + real(1.1676998740e-1)
        p = p * m - real(1.2420140846e-1)
        p = p * m + real(1.4249322787e-1)
        p = p * m - real(1.6668057665e-1)
        p = p * m + real(2.0000714765e-1)
        p = p * m - real(2.4999993993e-1)
        p = p * m + real(3.3333331174e-1)
        logarithm = real(exponent) * real(0.6931471805599453) + (m + m * m * (p * m - real(0.5)))
        radius = scale * np.sqrt(real(-2) * logarithm)

        low = words[2 * i]
        angle = real(np.int32(low) >> np.int32(3)) * real(np.pi / 4 * 2.0**-28)
        square = angle * angle
        sine = real(-1 / 5040) * square + real(1 / 120)
        sine = angle * ((sine * square - real(1 / 6)) * square + real(1))
        cosine = real(1 / 40320) * square - real(1 / 720)
        cosine = ((cosine * square + real(1 / 24)) * square - real(0.5)) * square + real(1)
        reflected = (low & np.uint32(1)) != 0
        along = sine if reflected else cosine
        across = cosine if reflected else sine
        first[i] += _with_sign(radius * along, low << np.uint32(30))
        second[i] += _with_sign(radius * across, low << np.uint32(29))


@compiled
def _with_sign(number, bits):
    """The number, negated if the highest one of the bits is set."""
    image = np.float32(number).view(np.uint32) ^ (bits & np.uint32(0x80000000))
    return np.uint32(image).view(np.float32)
