"""cliff: the loss landscape behind the sudden emergence of in-context learning.

The public names are imported when they are first used, so that ``import cliff`` costs nothing and
the command line starts at once. They are listed here in the direction in which data flows.
"""

from importlib import import_module
from typing import Any

_HOME = {
    # landscape → flow → trajectory → analysis
    "NestedLogit": "cliff.nested_logit",
    "integrate": "cliff.flow",
    "integrate_ensemble": "cliff.flow",
    "Trajectory": "cliff.trajectory",
    "Ensemble": "cliff.trajectory",
    "Transition": "cliff.trajectory",
    # task → network → run
    "Task": "cliff.task",
    "Transformer": "cliff.network.transformer",
    "MinimalHead": "cliff.network.minimal",
    "train": "cliff.network.training",
    # over parameters, and from disk
    "sweep": "cliff.sweeps",
    "save": "cliff.store",
    "load": "cliff.store",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    if name == "__version__":
        from importlib.metadata import version

        return version("cliff-icl")
    raise AttributeError(f"module 'cliff' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
