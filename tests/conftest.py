import signal

import numpy as np
import pytest

# A shell's background jobs ignore Ctrl-C, and what they start inherits that. Some tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def rng():
    return np.random.default_rng(20240507)
