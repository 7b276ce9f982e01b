"""What a landscape with memory knows of the data."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cliff.checks import ArgumentError, choice, integer, real

if TYPE_CHECKING:
    from cliff.task import Task

Array = NDArray[np.float64]

MOST_CLASSES = 10**7
"""Most classes of unequal frequency, whose sum takes a tenth of a second then."""


def octaves(n_classes: int, zipf_exponent: float) -> NDArray[np.int64]:
    """First rank of each group of classes of like frequency, from 1, shape (C,); see `Data`."""
    count = 1 if zipf_exponent == 0.0 else n_classes.bit_length()
    return 2 ** np.arange(count, dtype=np.int64)


@dataclass(frozen=True)
class Data:
    """The statistics of the training sequences, as far as a landscape with memory knows them.

    The parameters are those of `cliff.Task`, by the same names. Classes of like frequency form a
    group, which has one memory logit: with equal frequencies there is one group, otherwise groups
    are octaves of rank, 1, 2 to 3, 4 to 7 and so on, the last one cut at K.

    Parameters
    ----------
    n_classes : int
        Known classes K, at least 2; at most `MOST_CLASSES` unless the Zipf exponent is 0.
    zipf_exponent : float
        Exponent of the class frequencies, at most 10; 0 makes all classes equally frequent.
    burstiness : int
        Occurrences B of each class in a bursty context. With B = 0 no known sequence is bursty,
        and B = 1 in the novel ones.
    noise : float
        Spread ε of the items of a class, at most 1e6. Two items of a class overlap by
        1 / (1 + noise^2), an item with itself by 1.
    p_bursty : float
        Share of bursty sequences among the sequences of known classes.
    p_novel : float
        Share of novel sequences.
    labels_drawn : {"distinct", "replacement"}
        How the labels of the classes in a bursty or novel context are drawn.
    dim : int, optional
        Dimension D of the items, at least 1, in which memories disturb one another; see
        `crosstalk`. By default D is infinite, and they do not.

    Raises
    ------
    ArgumentError
        If a parameter is out of range.

    Examples
    --------
    >>> data = Data(n_classes=6, zipf_exponent=1.0)
    >>> data.first_ranks, data.group_sizes, data.group_shares.round(3)
    (array([1, 2, 4]), array([1, 2, 3]), array([0.408, 0.34 , 0.252]))
    """

    n_classes: int = 512
    zipf_exponent: float = 0.0
    burstiness: int = 1
    noise: float = 0.0
    p_bursty: float = 1.0
    p_novel: float = 0.0
    labels_drawn: str = "distinct"
    dim: int | None = None

    def __post_init__(self) -> None:
        for name, minimum in {"n_classes": 2, "burstiness": 0}.items():
            object.__setattr__(self, name, integer(name, getattr(self, name), minimum))
        most = {"noise": 1e6, "zipf_exponent": 10, "p_bursty": 1, "p_novel": 1}
        for name, maximum in most.items():
            object.__setattr__(self, name, real(name, getattr(self, name), 0, maximum))
        choice("labels_drawn", self.labels_drawn, ("distinct", "replacement"))
        if self.dim is not None:
            object.__setattr__(self, "dim", integer("dim", self.dim, 1))
        if self.zipf_exponent > 0 and self.n_classes > MOST_CLASSES:
            raise ArgumentError(
                "n_classes", self.n_classes, f"must be at most {MOST_CLASSES} unless all are alike"
            )

    @classmethod
    def of(cls, task: Task) -> Data:
        """The data of a task."""
        return cls(**{each.name: getattr(task, each.name) for each in fields(cls)})

    @property
    def copies(self) -> int:
        """Occurrences of each class in a bursty context."""
        return max(self.burstiness, 1)

    @property
    def kinds(self) -> tuple[float, float, float]:
        """Shares of novel sequences, of bursty ones of known classes, and of those by chance."""
        known, p_bursty = 1.0 - self.p_novel, self.p_bursty if self.burstiness else 0.0
        return self.p_novel, known * p_bursty, known * (1.0 - p_bursty)

    @property
    def n_groups(self) -> int:
        """Groups C of classes, each with a memory logit."""
        return len(self.first_ranks)

    @property
    def first_ranks(self) -> NDArray[np.int64]:
        """Rank of the most frequent class of each group, from 1, shape (C,)."""
        return octaves(self.n_classes, self.zipf_exponent)

    @property
    def group_sizes(self) -> NDArray[np.int64]:
        """Classes K_c in each group, shape (C,)."""
        return np.diff(self.first_ranks, append=self.n_classes + 1)

    def group_mobility(self, mobility: ArrayLike) -> Array:
        """Mobilities of the memory logits from that of one class, divided by K_c, shape (..., C).

        The force on a group's logit is the sum of those on its classes, which all move alike.
        """
        return np.asarray(mobility, dtype=np.float64) / self.group_sizes

    @cached_property
    def group_shares(self) -> Array:
        """Share F_c of the sequences of known classes that each group has, shape (C,)."""
        if self.n_groups == 1:
            return np.ones(1)
        frequencies = np.arange(1, self.n_classes + 1) ** -self.zipf_exponent
        shares: Array = np.add.reduceat(frequencies, self.first_ranks - 1)
        shares /= shares.sum()
        shares.flags.writeable = False
        return shares

    def crosstalk(self, n_labels: int) -> Array:
        """Variance that unit memories add to the logit of a label, by group, shape (C,).

        K_c/L classes of a group have the label. What is stored of one, the mean of its items, has
        the squared norm rho = 1/(1 + noise^2), overlaps with an item of its own class by rho, for
        which it gives the logit 1, and with another class's item by a random number of variance
        rho/D: together K_c/(L·D·rho).
        """
        if self.dim is None:
            return np.zeros(self.n_groups)
        per_class = (1.0 + self.noise**2) / (n_labels * self.dim)
        return self.group_sizes.astype(np.float64) * per_class
