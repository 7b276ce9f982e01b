"""Files: atomic writes, NetCDF through xarray, provenance.

Every result of this package is one netCDF-4 file, written by xarray through h5netcdf: any Unicode
name, 64-bit integers, text and compression. Its global attributes say what made it: ``cliff_kind``
and ``cliff_format`` (what it holds, in which version of this layout), ``parameters`` (JSON),
``versions`` (JSON), ``seed``, ``git_commit`` and ``command``. Files of format 1 (NetCDF 3) are read
as well.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import platform
import shlex
import stat
import subprocess
import sys
import tempfile
import time
import unicodedata
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from functools import cache
from importlib import resources
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from cliff.checks import ArgumentError

if TYPE_CHECKING:
    import xarray as xr

FORMAT = 3
"""Version of the file layout. A file with a higher number is refused rather than misread."""

STALE = 3600.0
"""Age in seconds beyond which an unfinished temporary file is a killed process's."""

COMPRESSED = 4096
"""Size in bytes from which an array is compressed."""


def write_atomic(path: str | os.PathLike[str], write: Callable[[BinaryIO], object]) -> Path:
    """Write a file, through `write(file)`, so that it is either all there or untouched.

    Raises
    ------
    ArgumentError
        If the directory is missing or cannot be written to.
    OSError
        If the disk fills up. What stood at `path` before is still there.
    """
    target = check_writable(path).resolve()  # behind a link, which stays
    unfinished = f"{_beside(target)}.tmp-"
    for left in target.parent.glob(f"{unfinished}*"):
        with suppress(OSError):  # another process may have finished or removed it
            if time.time() - left.stat().st_mtime > STALE:
                left.unlink()
    temporary = target.with_name(unfinished + uuid.uuid4().hex[:12])
    try:
        with open(temporary, "xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            temporary.chmod(stat.S_IMODE(target.stat().st_mode))
        temporary.replace(target)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename in (None, str(temporary)):
            error.filename = str(path)  # the name that the user knows
        raise
    _sync(target.parent)
    return Path(path)


def _beside(target: Path) -> str:
    """How the names of hidden files beside `target` begin: short, however long its own name is."""
    return f".cliff-{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:12]}"


def _sync(directory: Path) -> None:
    """Let a new name survive a power cut, on systems where a directory can be opened."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with suppress(OSError):  # some network file systems refuse
                os.fsync(handle)
        finally:
            os.close(handle)


def check_writable(path: str | os.PathLike[str], argument: str = "path") -> Path:
    """Raise ArgumentError unless a file can be made at `path`, and leave nothing there.

    Long computations call this before they start.
    """
    target = Path(path)
    directory = (target.resolve() if target.is_symlink() else target).parent
    if not directory.is_dir():
        raise ArgumentError(argument, str(path), f"the directory {directory} does not exist")
    if target.is_dir():
        raise ArgumentError(argument, str(path), "is a directory, not a file")
    if target.exists():
        if not target.is_file():
            raise ArgumentError(argument, str(path), "is not a regular file")
        if not _may_replace(target, directory):
            raise ArgumentError(argument, str(path), "belongs to another user")
    try:
        tempfile.TemporaryFile(dir=directory).close()
    except OSError as error:
        reason = "is read-only" if error.errno in _READ_ONLY else f"takes no file: {error.strerror}"
        raise ArgumentError(argument, str(path), f"the directory {directory} {reason}") from None
    return target


def _may_replace(target: Path, directory: Path) -> bool:
    """Whether this user may replace a file: not another user's in a directory such as /tmp."""
    if not hasattr(os, "geteuid") or not directory.stat().st_mode & stat.S_ISVTX:
        return True
    return os.geteuid() in (0, target.stat().st_uid, directory.stat().st_uid)


_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def locked(path: str | os.PathLike[str] | None, argument: str, writer: str) -> Iterator[None]:
    """Keep other processes from writing to `path` meanwhile; None locks nothing.

    The lock is the operating system's, on a hidden file beside `path`; a killed process lets go of
    it. Where the file system has no locks, it is a file that names its process.

    Where another process holds the lock, an `ArgumentError` names the `argument` that has the path,
    and the `writer`, what the other process is.
    """
    if path is None:
        yield
        return
    from filelock import FileLock, SoftFileLock, Timeout

    target = check_writable(path, argument).resolve()
    files = [target.with_name(f"{_beside(target)}.{suffix}") for suffix in ("lock", "owner")]
    for kind, file in zip((FileLock, SoftFileLock), files, strict=True):
        lock = kind(file, blocking=False)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # filelock's own words on what is handled here
                lock.acquire()
            break
        except Timeout:
            requirement = f"another {writer} writes to it: wait for its end, or name another file"
            raise ArgumentError(argument, str(path), requirement) from None
        except (OSError, NotImplementedError) as error:
            no_locks = isinstance(error, NotImplementedError) or error.errno in _NO_LOCKS
            if not no_locks or kind is SoftFileLock:
                reason = f"cannot be locked, the file {file} is in the way: {error}"
                raise ArgumentError(argument, str(path), reason) from None
            file.unlink(missing_ok=True)  # nobody can lock it
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes no open file
            file.unlink()
        lock.release()


_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)
"""What file systems without locks answer."""


def check_name(argument: str, name: object) -> str:
    """Raise ArgumentError unless `name` can be the name of a variable or dimension in a file.

    A name is text without a slash, without control characters and without spaces at its ends.
    """
    usable = isinstance(name, str) and name == name.strip() != ""
    if not usable or "/" in str(name) or any(unicodedata.category(c)[0] == "C" for c in str(name)):
        raise ArgumentError(
            argument, name, "must be a name without slashes, control characters or outer spaces"
        )
    return str(name)


@cache
def environment() -> dict[str, str]:
    """Versions, git commit and command line of this process, as NetCDF attributes."""
    versions = {"python": platform.python_version()}
    for name in ("cliff-icl", "numpy", "scipy", "numba", "xarray", "h5netcdf"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "versions": json.dumps(versions),
        "git_commit": _git_commit(),
        # file names need not be UTF-8, and what cannot be decoded cannot be stored as it is
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
        .encode(errors="backslashreplace")
        .decode(),
    }


def _git_commit() -> str:
    """The commit of this package's source, with "-dirty" where files differ from it.

    A checkout asks git. An installed copy has the commit that it was built from in ``_commit.txt``;
    a copy that was built without git has none: ''.
    """
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        recorded = resources.files("cliff") / "_commit.txt"
        return recorded.read_text("ascii").strip() if recorded.is_file() else ""
    try:
        ask = ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]  # no tags
        run = ["git", "-C", str(root), *ask]
        # in a session of its own, where the terminal's Ctrl-C does not end it without an answer
        return subprocess.run(
            run, capture_output=True, text=True, timeout=5, start_new_session=True
        ).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def provenance(parameters: Mapping[str, Any], seed: object = None) -> dict[str, str]:
    """Global attributes that say what made a result.

    `parameters` are all that determines it, as values that JSON can hold; `seed` is that of its
    randomness, None where there is none.
    """
    return {
        "parameters": json.dumps(dict(parameters), sort_keys=True),
        "seed": json.dumps(seed),
        **environment(),
    }


def save_dataset(dataset: xr.Dataset, path: str | os.PathLike[str], kind: str) -> Path:
    """Write a dataset atomically as netCDF-4, marked with its kind and the version of the layout.

    Raises
    ------
    ArgumentError
        If the file cannot be written, or a name cannot be stored.
    """
    for name in {*dataset.variables, *dataset.dims}:
        check_name("dataset", name)
    marked = dataset.drop_encoding().assign_attrs(cliff_kind=kind, cliff_format=FORMAT)
    compressed = {
        name: {"zlib": True, "shuffle": True}
        for name, variable in marked.variables.items()
        if variable.dtype.kind in "fiu" and variable.nbytes >= COMPRESSED
    }
    buffer, dask = io.BytesIO(), sys.modules.get("dask")
    # or xarray would ask the scheduler of an open Dask client for a lock on the local buffer
    with dask.config.set(scheduler="synchronous") if dask else nullcontext():
        marked.to_netcdf(buffer, engine="h5netcdf", encoding=compressed)
    return write_atomic(path, lambda file: file.write(buffer.getvalue()))


def save(result: Any, path: str | os.PathLike[str]) -> Path:
    """Write any result of this package to a file that `load` reads, atomically.

    Parameters
    ----------
    result : Trajectory, Ensemble or xarray.Dataset
        A Dataset is one that `train`, `sweep` or `load` returned.
    path : path-like

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
    """Read a file of this package, of a kind unless that is None, into memory.

    Raises
    ------
    ArgumentError
        If there is no such file, or it is truncated, damaged, of another format or kind, or from a
        newer version of the layout.
    """
    import xarray as xr

    def refused(requirement: str) -> ArgumentError:
        return ArgumentError("path", str(path), requirement)

    if not Path(path).is_file():
        raise refused("no such file")
    try:
        with open(path, "rb") as opened:
            engine = "scipy" if opened.read(3) == b"CDF" else "h5netcdf"
        with xr.open_dataset(path, engine=engine) as lazy:
            dataset = lazy.load()
    except Exception as error:  # the readers raise anything from TypeError to IndexError here
        raise refused("is not a NetCDF file of this package, or is truncated") from error
    found = dataset.attrs.get("cliff_kind")
    if found is None:
        raise refused("is a NetCDF file, but not one of this package")
    if int(dataset.attrs.get("cliff_format", 0)) > FORMAT:
        raise refused("was written by a newer version of cliff: upgrade to read it")
    if kind is not None and found != kind:
        raise refused(f"holds a {found}, and a {kind} is needed")
    try:
        json.loads(dataset.attrs.get("parameters", "{}"))
    except (ValueError, RecursionError) as error:
        raise damaged("path", path, error) from error
    for name, variable in dataset.variables.items():
        # files of format 1 hold integers above 32 bits as float64
        if variable.attrs.pop("cliff_integers", None):
            dataset = dataset.assign({name: variable.astype("int64")})
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
    kind = dataset.attrs["cliff_kind"]
    if kind not in ("trajectory", "ensemble"):
        return dataset
    from cliff import trajectory  # which imports this module

    try:
        return getattr(trajectory, kind.capitalize()).from_dataset(dataset)
    except ArgumentError:
        raise
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise damaged("path", path, error) from error


def damaged(argument: str, path: str | os.PathLike[str], error: Exception) -> ArgumentError:
    """What to raise where a file of the right kind lacks something that its kind has."""
    lacks = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
    return ArgumentError(argument, str(path), f"is damaged: {' '.join(lacks.split())[:200]}")
