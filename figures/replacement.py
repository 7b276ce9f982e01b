"""Wall and no wall: labels of the context distinct, and drawn with replacement."""

from __future__ import annotations

from figures.ensembles import Case, case, until_the_fall

PAIRS = (2, 4, 8, 16)


def cases(fast: bool = False) -> list[Case]:
    return [
        until_the_fall(
            case(
                n_pairs=n, n_labels=n, seed=seed, labels_drawn=labels,
                n_steps=200 if fast else 10_000 if n < 16 else 20_000,
            )
        )
        for labels in ("replacement",)
        for seed in range(3)
        for n in ((2,) if fast else PAIRS)
    ]  # fmt: skip
