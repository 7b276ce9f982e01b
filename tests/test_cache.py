"""Compiled kernels: where they are kept, and that nothing about that place can break a result."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cliff.kernels import cache as cache_module

# one small kernel, and whether it came from the disk
PROGRAM = """
import warnings
warnings.simplefilter("error")
import numpy as np
from cliff.kernels.network import descend

parameter = np.ones(3)
descend(parameter, np.ones(3), 0.25, 0.0)
print(parameter[0], sum(descend.stats.cache_hits.values()))
"""
STEPPED = "0.75"


def run(cache=None, program=PROGRAM, **environment):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA")}
    if cache is not None:
        kept["NUMBA_CACHE_DIR"] = str(cache)
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=kept | environment,
        cwd=Path.home().anchor,
    )


def answer(done):
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    value, hits = done.stdout.split()
    assert value == STEPPED
    return int(hits)


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A cache directory with the kernel in it."""
    directory = tmp_path_factory.mktemp("cache")
    assert answer(run(directory)) == 0
    return directory


@pytest.fixture
def cache(filled, tmp_path):
    return Path(shutil.copytree(filled, tmp_path / "cache"))


def test_a_second_process_finds_the_kernel(cache):
    assert answer(run(cache)) == 1


@pytest.mark.parametrize("ending", ["nbi", "nbc"])
@pytest.mark.parametrize("content", ["cut", "foreign", "empty"])
def test_damaged_files_cost_a_compilation_and_are_replaced(cache, ending, content):
    for file in cache.rglob(f"*.{ending}"):
        whole = file.read_bytes()
        file.write_bytes(
            {"cut": whole[: len(whole) // 2], "foreign": b"x" * 100, "empty": b""}[content]
        )
    assert answer(run(cache)) == 0
    assert answer(run(cache)) == 1


def test_nothing_is_written_beside_the_source(cache):
    source = Path(__file__).parent.parent / "cliff"
    before = set(source.rglob("*.nb?"))
    assert answer(run(cache)) == 1
    assert set(source.rglob("*.nb?")) == before == set()


def test_without_a_variable_the_users_cache_directory_is_used(tmp_path):
    assert answer(run(XDG_CACHE_HOME=str(tmp_path), HOME=str(tmp_path))) == 0
    if sys.platform.startswith("linux"):
        assert list((tmp_path / "cliff-icl" / "compiled").rglob("*.nbi"))


def test_a_home_that_cannot_be_made_costs_the_cache_only():
    assert answer(run(XDG_CACHE_HOME="/dev/null/cache", HOME="/dev/null")) == 0


def test_a_user_without_a_home_has_no_cache(monkeypatch):
    def nowhere(*_, **__):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(cache_module, "user_cache_path", nowhere)
    monkeypatch.setattr(cache_module.config, "CACHE_DIR", "")
    assert cache_module.cache_directory.__wrapped__() is None


def test_a_full_disk_costs_the_cache_only(cache, tmp_path):
    program = (
        """
import builtins, errno
import cliff.kernels.cache as cache
from numba.core.caching import IndexDataCacheFile
def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")
IndexDataCacheFile._save_data = full
"""
        + PROGRAM
    )
    assert answer(run(tmp_path / "empty", program)) == 0


def test_the_code_is_compiled_anew_when_any_kernel_file_changes(cache, tmp_path):
    source = Path(__file__).parent.parent / "cliff"
    copy = shutil.copytree(
        source, tmp_path / "copy" / "cliff", ignore=shutil.ignore_patterns("__pycache__")
    )
    there = {"PYTHONPATH": str(copy.parent)}
    assert answer(run(cache, **there)) == 0
    assert answer(run(cache, **there)) == 1
    other = copy / "kernels" / "simd.py"
    other.write_text(other.read_text() + "\n# another version\n")
    assert answer(run(cache, **there)) == 0


def test_a_read_only_installation_works(cache, tmp_path):
    source = Path(__file__).parent.parent / "cliff"
    copy = shutil.copytree(
        source, tmp_path / "copy" / "cliff", ignore=shutil.ignore_patterns("__pycache__")
    )
    for path in [copy, *copy.rglob("*")]:
        path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    try:
        assert answer(run(cache, PYTHONPATH=str(copy.parent))) == 0
        assert answer(run(cache, PYTHONPATH=str(copy.parent))) == 1
    finally:
        for path in [copy, *copy.rglob("*")]:
            path.chmod(path.stat().st_mode | stat.S_IWUSR)


def test_kernels_are_compiled_even_where_the_compiler_is_switched_off(cache):
    program = PROGRAM.replace('warnings.simplefilter("error")', 'warnings.simplefilter("always")')
    done = run(cache, program, NUMBA_DISABLE_JIT="1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == STEPPED
    assert "NUMBA_DISABLE_JIT" in done.stderr


@pytest.mark.slow
def test_the_process_that_compiles_computes_the_same_bits(tmp_path):
    program = """
from cliff import Task, Transformer
from cliff.task import DATA, stream
task = Task()
net = Transformer(task)
batch = task.sample(stream(0, DATA), 128)
print(net.loss_and_gradient(batch).hex(), float(net.gradients.vector.astype(float).sum()).hex())
"""
    compiled, loaded = (run(tmp_path, program) for _ in range(2))
    assert compiled.returncode == 0, compiled.stderr
    assert loaded.stdout == compiled.stdout
