"""cliff: the loss landscape behind the sudden emergence of in-context learning.

The public names stand in ``__init__.pyi``. They are imported when they are first used, so that
``import cliff`` costs nothing and the command line starts at once.
"""

from typing import Any

import lazy_loader

_lazy_attribute, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("cliff-icl")
    return _lazy_attribute(name)
