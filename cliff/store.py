"""Files: atomic writes, NetCDF through xarray, provenance.

Every result of this package is one NetCDF file (version 3 with 64-bit offsets, written by SciPy, so
that a plain xarray reads it with no further library). Its global attributes say what made it:
``cliff_kind`` and ``cliff_format`` (what it holds, in which version of this layout), ``parameters``
(JSON), ``versions`` (JSON), ``seed``, ``git_commit`` and ``command``.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from cliff.checks import LARGEST_INTEGER, ArgumentError

if TYPE_CHECKING:
    import xarray as xr

FORMAT = 1
"""Version of the file layout. A file with a higher number is refused rather than misread."""

# which module turns a file of a kind back into its object
_READERS = {
    "trajectory": ("cliff.trajectory", "Trajectory"),
    "ensemble": ("cliff.trajectory", "Ensemble"),
}


def write_atomic(path: str | os.PathLike[str], write: Callable[[BinaryIO], object]) -> Path:
    """Write a file so that it is either all there or untouched.

    Parameters
    ----------
    path : path-like
        Where the file goes. Its directory must exist.
    write : callable
        Called once with a binary file open for writing.

    Returns
    -------
    pathlib.Path
        The path.

    Raises
    ------
    ArgumentError
        If the directory is missing or cannot be written to.
    OSError
        If the disk fills up. What stood at `path` before is still there.
    """
    target = check_writable(path).resolve()  # behind a link, which stays
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)  # mkstemp makes files that only their owner can read
        os.replace(name, target)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename is None:
            error.filename = str(path)  # a full disk does not know whose it is
        raise
    directory = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # the new name itself has to survive a power cut
    finally:
        os.close(directory)
    return Path(path)


def check_writable(path: str | os.PathLike[str], argument: str = "path") -> Path:
    """Raise ArgumentError unless a file can be made at `path`; touch nothing.

    Long computations call this before they start.
    """
    target = Path(path)
    directory = (target.resolve() if target.is_symlink() else target).parent
    if not directory.is_dir():
        raise ArgumentError(argument, str(path), f"the directory {directory} does not exist")
    if not os.access(directory, os.W_OK):
        raise ArgumentError(argument, str(path), f"the directory {directory} is read-only")
    if target.is_dir():
        raise ArgumentError(argument, str(path), "is a directory, not a file")
    if target.exists() and not target.is_file():
        raise ArgumentError(argument, str(path), "is not a regular file")
    return target


@cache
def environment() -> dict[str, str]:
    """Versions, git commit and command line of this process, as NetCDF attributes."""
    versions = {"python": platform.python_version()}
    for name in ("cliff-icl", "numpy", "scipy", "numba", "xarray"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "versions": json.dumps(versions),
        "git_commit": _git_commit(),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


def _git_commit() -> str:
    """Commit of the checkout that this package is imported from; '' for an installed copy."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return ""
    try:
        run = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
        return subprocess.run(run, capture_output=True, text=True, timeout=5).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def provenance(parameters: Mapping[str, Any], seed: object = None) -> dict[str, str]:
    """Global attributes that say what made a result.

    Parameters
    ----------
    parameters : mapping
        Everything that determines the result, as values that JSON can hold.
    seed : object, optional
        Seed of the result's randomness; None where there is none.
    """
    return {
        "parameters": json.dumps(dict(parameters), sort_keys=True),
        "seed": json.dumps(seed),
        **environment(),
    }


_WIDE = "cliff_integers"
"""Attribute of whole numbers above 32 bits, which are written as float64: exact up to 2^53."""


def save_dataset(dataset: xr.Dataset, path: str | os.PathLike[str], kind: str) -> Path:
    """Write a dataset atomically as NetCDF, marked with its kind and the version of the layout."""
    marked = _as_written(dataset).assign_attrs(cliff_kind=kind, cliff_format=FORMAT)
    data = bytes(marked.to_netcdf(path=None, engine="scipy", format="NETCDF3_64BIT"))
    return write_atomic(path, lambda file: file.write(data))


def save(result: Any, path: str | os.PathLike[str]) -> Path:
    """Write any result of this package to a file that `load` reads, atomically.

    Parameters
    ----------
    result : Trajectory, Ensemble or xarray.Dataset
        A Dataset is one that `train`, `sweep` or `load` returned.
    path : path-like

    Returns
    -------
    pathlib.Path
        The path.

    Raises
    ------
    ArgumentError
        If the file cannot be written, or the Dataset comes from elsewhere.
    """
    if hasattr(result, "to_dataset"):
        return Path(result.save(path))
    kind = getattr(result, "attrs", {}).get("cliff_kind")
    if kind is None:
        raise ArgumentError("result", type(result).__name__, "is not a result of this package")
    return save_dataset(result, path, kind)


def open_dataset(path: str | os.PathLike[str], kind: str | None = None) -> xr.Dataset:
    """Read a file of this package into memory.

    Parameters
    ----------
    path : path-like
        The file.
    kind : str, optional
        The kind it has to be of; None accepts every kind.

    Raises
    ------
    ArgumentError
        If there is no such file, or it is truncated, of another format or kind, or from a newer
        version of the layout.
    """
    import xarray as xr

    file = Path(path)
    if not file.is_file():
        raise ArgumentError("path", str(path), "no such file")
    try:
        with xr.open_dataset(file, engine="scipy") as opened:
            dataset = opened.load()
    except Exception as error:  # SciPy raises anything from TypeError to IndexError here
        raise ArgumentError(
            "path", str(path), "is not a NetCDF file of this package, or is truncated"
        ) from error
    found = dataset.attrs.get("cliff_kind")
    if found is None:
        raise ArgumentError("path", str(path), "is a NetCDF file, but not one of this package")
    if int(dataset.attrs.get("cliff_format", 0)) > FORMAT:
        raise ArgumentError(
            "path", str(path), "was written by a newer version of cliff: upgrade to read it"
        )
    if kind is not None and found != kind:
        raise ArgumentError("path", str(path), f"holds a {found}, and a {kind} is needed")
    return _as_made(dataset)


def _as_written(dataset: xr.Dataset) -> xr.Dataset:
    """With marked float64 in place of integers that do not fit into the 32 bits of NetCDF 3."""
    for name, variable in dataset.variables.items():
        if variable.dtype.kind not in "iu" or not variable.size:
            continue
        if 2**31 <= abs(variable).max() <= LARGEST_INTEGER:  # beyond it, writing raises
            number = variable.astype("float64")
            number.attrs[_WIDE] = "int64"
            dataset = dataset.assign({name: number})
    return dataset


def _as_made(dataset: xr.Dataset) -> xr.Dataset:
    """Undo `_as_written`."""
    for name, variable in dataset.variables.items():
        if _WIDE in variable.attrs:
            whole = variable.astype("int64")
            del whole.attrs[_WIDE]
            dataset = dataset.assign({name: whole})
    return dataset


def load(path: str | os.PathLike[str]) -> Any:
    """Read any file that this package wrote.

    Parameters
    ----------
    path : path-like
        A file made by ``.save(path)`` or by ``--output``.

    Returns
    -------
    Trajectory, Ensemble or xarray.Dataset
        The object that was saved; kinds that are labelled arrays come back as the Dataset.

    Raises
    ------
    ArgumentError
        As `open_dataset`.
    """
    dataset = open_dataset(path)
    reader = _READERS.get(dataset.attrs["cliff_kind"])
    if reader is None:
        return dataset
    module, name = reader
    return getattr(import_module(module), name).from_dataset(dataset)
