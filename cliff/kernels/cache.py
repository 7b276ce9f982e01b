"""Where compiled kernels are kept between processes.

numba keeps them beside the source by default. There they survive the package's removal and hide an
editable installation, and a read-only installation has no room for them. They lie in the user's
cache directory instead, or in ``NUMBA_CACHE_DIR`` if that is set.
"""

import hashlib
import os
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from numba import config
from numba.core.caching import FunctionCache
from platformdirs import user_cache_path


class _Cache(FunctionCache):
    """numba's cache of one function, whose failures cost a compilation and nothing else."""

    def load_overload(self, signature: Any, target: Any) -> Any:
        try:
            return super().load_overload(signature, target)
        except Exception:  # a truncated or foreign file: unpickling raises anything
            with suppress(OSError):
                self.flush()  # else saving would trip over the same file
            return None

    def save_overload(self, signature: Any, data: Any) -> None:
        with suppress(OSError):  # a full disk, a directory that has gone
            super().save_overload(signature, data)


def keep_on_disk(dispatcher: Any) -> Any:
    """Let a jitted function keep its machine code on disk, where there is room for it.

    numba drops the code when the function's own file changes, and does not see a change in the
    files of the functions that it calls. Here the contents of all files of the package's kernels
    count.
    """
    directory = cache_directory()
    if directory is None:
        return dispatcher
    before = config.CACHE_DIR  # type: ignore[attr-defined]
    config.CACHE_DIR = str(directory)  # type: ignore[attr-defined]
    try:
        kept: Any = _Cache(dispatcher.py_func)
    except (OSError, RuntimeError):  # no source file, or the directory has just gone
        return dispatcher
    finally:
        config.CACHE_DIR = before  # type: ignore[attr-defined]
    kept._cache_file._source_stamp = _stamp(Path(dispatcher.py_func.__code__.co_filename).parent)
    dispatcher._cache = kept
    return dispatcher


@cache
def cache_directory() -> Path | None:
    """The directory of compiled code, made if it is missing; None if it cannot be written to."""
    chosen = config.CACHE_DIR  # type: ignore[attr-defined]
    try:
        directory = Path(chosen or user_cache_path("cliff-icl", appauthor=False) / "compiled")
        directory.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=directory).close()
    except (OSError, RuntimeError):  # RuntimeError: no HOME, and a user without an entry
        return None
    return directory


@cache
def _stamp(folder: Path) -> str:
    """Hash of the files of the kernels, and of another folder that holds compiled functions."""
    digest = hashlib.sha256()
    for file in sorted({*Path(__file__).parent.glob("*.py"), *folder.glob("*.py")}):
        digest.update(os.fsencode(file.name) + b"\0" + file.read_bytes())
    return digest.hexdigest()
