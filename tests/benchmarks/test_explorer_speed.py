"""How fast the page of ``cliff explore`` follows a slider: needs chromium and a quiet machine."""

import numpy as np
from browser import WATCH, opened


def test_the_page_follows_a_slider(tmp_path, capsys):
    """From a move to the answer of Python, and until the browser has painted all four figures."""
    with opened(tmp_path) as (_, tab):
        tab.wait_for_timeout(1000)
        tab.evaluate(WATCH)
        moves = [tab.evaluate("value => move(value)", x) for x in np.linspace(0, 1, 30).tolist()]
    times = {what: [move[what] for move in moves[5:]] for what in ("answered", "painted")}
    with capsys.disabled():
        for what, values in times.items():
            print(f"\n{what} {np.median(values):.0f} ms after a slider's move "
                  f"(median of {len(values)}; {min(values):.0f} at best)", end="")  # fmt: skip
        print()
    assert np.median(times["painted"]) < 100
