"""Files: what a dataset holds comes back, and a failed write leaves nothing behind."""

import errno
import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from cliff import store
from cliff.checks import ArgumentError


def test_everything_a_dataset_holds_comes_back(tmp_path):
    dataset = xr.Dataset(
        {
            "β₁": ("α", [2**62, -(2**63)], {"units": "1", "long_name": "größte Zahl"}),
            "text": ("α", ["ψ", "two words"]),
            "none": ("k", np.empty(0, int)),
            "large": (("i", "j"), np.arange(40_000.0).reshape(200, 200)),
            "missing": ("α", [np.nan, np.inf]),
            "small": ((), np.int8(-1)),
        },
        coords={"α": [2**33, 7], "other": 3_000_000_000},
    )
    path = store.save_dataset(dataset, tmp_path / "ä.nc", "sweep")
    found = store.open_dataset(path)
    assert found.drop_attrs(deep=False).identical(dataset)
    assert {name: found[name].dtype for name in found.variables if name != "text"} == {
        name: dataset[name].dtype for name in dataset.variables if name != "text"
    }
    assert path.stat().st_size < 200_000 < dataset.large.nbytes  # compressed
    with xr.open_dataset(path) as plain:  # no engine named, as in a session without cliff
        assert plain["text"].values.tolist() == ["ψ", "two words"]
    assert store.save_dataset(found, path, "sweep").exists()  # what was read can be written again


def test_the_same_dataset_makes_the_same_bytes(tmp_path):
    dataset = xr.Dataset({"x": ("n", np.linspace(0, 1, 5000))}, attrs={"a": "b"})
    first = store.save_dataset(dataset, tmp_path / "1.nc", "sweep").read_bytes()
    time.sleep(1.1)
    assert store.save_dataset(dataset, tmp_path / "2.nc", "sweep").read_bytes() == first


@pytest.mark.parametrize("name", ["a/b", "", " a", "a\n", "\x00", 3])
def test_names_that_no_file_can_hold_are_refused(tmp_path, name):
    with pytest.raises(ArgumentError, match="must be a name without slashes"):
        store.save_dataset(xr.Dataset({name: ("n", [1.0])}), tmp_path / "x.nc", "sweep")
    assert not list(tmp_path.iterdir())


def test_files_of_the_first_format_are_read():
    for file in (Path(__file__).parent.parent / "figures" / "data").glob("*.nc"):
        assert store.open_dataset(file).attrs["cliff_kind"] == "figure"


def test_wide_integers_of_the_first_format_come_back(tmp_path):
    old = xr.Dataset(
        {"n": ("seed", [2.0**40, -1.0], {"cliff_integers": "int64"})},
        attrs={"cliff_kind": "sweep", "cliff_format": 1},
    )
    old.to_netcdf(tmp_path / "old.nc", engine="scipy", format="NETCDF3_64BIT")
    found = store.open_dataset(tmp_path / "old.nc")
    assert found.n.dtype == np.int64
    assert found.n.values.tolist() == [2**40, -1]


def test_a_link_stays_and_its_file_is_written(tmp_path):
    link, file = tmp_path / "link.bin", tmp_path / "elsewhere" / "file.bin"
    link.symlink_to(file)
    with pytest.raises(ArgumentError, match="elsewhere does not exist"):
        store.check_writable(link)
    file.parent.mkdir()
    assert store.write_atomic(link, lambda opened: opened.write(b"new")) == link
    assert link.is_symlink()
    assert file.read_bytes() == b"new"


def test_only_regular_files_are_replaced(tmp_path):
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for path in (pipe, link, "/dev/null"):
        with pytest.raises(ArgumentError, match="is not a regular file"):
            store.write_atomic(path, lambda opened: opened.write(b"new"))


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_modes_follow_the_mask_and_stay(tmp_path, mask):
    before = os.umask(mask)
    try:
        path = store.write_atomic(tmp_path / "new", lambda file: file.write(b"1"))
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
        path.chmod(0o640)
        store.write_atomic(path, lambda file: file.write(b"2"))
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
    finally:
        assert os.umask(before) == mask


def test_the_mask_of_the_process_is_never_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "umask", lambda _: pytest.fail("other threads make files meanwhile"))
    store.write_atomic(tmp_path / "new", lambda file: file.write(b"1"))


def test_a_failed_write_leaves_the_older_file_alone(tmp_path):
    path = store.write_atomic(tmp_path / "file", lambda file: file.write(b"old"))

    def fill(file):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space") as caught:
        store.write_atomic(path, fill)
    assert caught.value.filename == str(path)
    with pytest.raises(KeyboardInterrupt):
        store.write_atomic(path, lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_what_a_killed_process_left_is_removed_by_a_later_write(tmp_path):
    program = (
        "import os, signal, sys\nfrom cliff.store import write_atomic\n"
        "write_atomic(sys.argv[1], lambda file: os.kill(os.getpid(), 9))"
    )
    path = tmp_path / "run.nc"
    subprocess.run([sys.executable, "-c", program, str(path)])
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".cliff-")
    other = left.with_name(left.name[:-12] + "of a process at work")
    other.touch()
    os.utime(left, (time.time() - 2 * store.STALE,) * 2)
    store.write_atomic(path, lambda file: file.write(b"new"))
    assert sorted(tmp_path.iterdir()) == sorted([path, other])


def test_a_name_may_be_as_long_as_the_system_allows(tmp_path):
    path = tmp_path / ("x" * 252 + ".nc")
    with store.locked(path, "path", "test"):
        store.write_atomic(path, lambda file: file.write(b"new"))
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs users")
def test_a_file_of_another_user_in_a_shared_directory_is_refused_at_once(tmp_path, monkeypatch):
    path = tmp_path / "run.nc"
    path.touch()
    tmp_path.chmod(0o1777)
    assert store.check_writable(path) == path
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(ArgumentError, match="belongs to another user"):
        store.check_writable(path)
    tmp_path.chmod(0o777)  # not sticky: whoever may write there may replace
    assert store.check_writable(path) == path


def test_a_lock_that_cannot_be_opened_is_no_missing_lock(tmp_path, monkeypatch):
    whole = os.open

    def of_another_user(path, *arguments, **options):
        if str(path).endswith(".lock"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return whole(path, *arguments, **options)

    monkeypatch.setattr(os, "open", of_another_user)
    refused = pytest.raises(ArgumentError, match="cannot be locked, the file")
    with refused, store.locked(tmp_path / "run.nc", "path", "test"):
        pytest.fail("another user may hold it")


def test_git_does_not_hear_the_ctrl_c_of_the_terminal(tmp_path, monkeypatch):
    """It would end without an answer, which the process then keeps as its commit."""
    git = tmp_path / "git"
    git.write_text(f"#!{sys.executable}\nimport os\nprint(os.getsid(0))\n")
    git.chmod(0o755)
    (tmp_path / ".git").mkdir()
    monkeypatch.setattr(store, "__file__", str(tmp_path / "cliff" / "store.py"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert int(store._git_commit()) != os.getsid(0)


def test_the_commit_is_no_tag(tmp_path, monkeypatch):
    (tmp_path / "cliff").mkdir()
    monkeypatch.setattr(store, "__file__", str(tmp_path / "cliff" / "store.py"))
    name = ("-c", "user.name=a", "-c", "user.email=b@c")
    for words in ("init -q", "commit -q --allow-empty -m .", "tag -am. v1"):
        subprocess.run(["git", "-C", str(tmp_path), *name, *words.split()], check=True)
    head = ["git", "-C", str(tmp_path), "rev-parse", "HEAD"]
    assert store._git_commit() == subprocess.check_output(head, text=True).strip()


def test_a_directory_that_takes_no_file_is_told_at_once():
    if not Path("/proc/self").exists():
        pytest.skip("needs /proc")
    with pytest.raises(ArgumentError, match=r"output=/proc/run.nc: the directory /proc takes no"):
        store.check_writable("/proc/run.nc", "output")


def test_a_command_line_that_is_no_text_is_recorded(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["cliff", "flow", os.fsdecode(b"r\xffn.nc")])
    store.environment.cache_clear()
    try:
        command = store.environment()["command"]
    finally:
        store.environment.cache_clear()
    assert command.encode().decode().startswith("cliff flow 'r\\udcffn.nc'")
    json.dumps(command, ensure_ascii=False).encode()


def test_an_installed_copy_tells_the_commit_that_it_was_built_from(monkeypatch, tmp_path):
    package = tmp_path / "cliff"
    package.mkdir()
    (package / "_commit.txt").write_text("0123456789abcdef\n")
    monkeypatch.setattr(store, "__file__", str(package / "store.py"))
    monkeypatch.setattr(store.resources, "files", lambda _: package)
    assert store._git_commit() == "0123456789abcdef"
    (package / "_commit.txt").unlink()
    assert store._git_commit() == ""
