"""Record the git commit in what is built, for the provenance of results; else see setup.cfg."""

import subprocess
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

ROOT = Path(__file__).parent
RECORD = Path("cliff/_commit.txt")


def commit() -> str:
    """The commit of this checkout; in a source distribution, the one that is recorded; else ''."""
    if not (ROOT / ".git").exists():
        return (ROOT / RECORD).read_text("ascii") if (ROOT / RECORD).exists() else ""
    ask = ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]  # no tags
    try:
        run = subprocess.run(["git", "-C", str(ROOT), *ask], capture_output=True, text=True)
        return run.stdout.strip()
    except OSError:
        return ""


class Build(build_py):
    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / RECORD
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(commit(), "ascii")


class SourceDistribution(sdist):
    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        super().make_release_tree(base_dir, files)
        (Path(base_dir) / RECORD).write_text(commit(), "ascii")


setup(cmdclass={"build_py": Build, "sdist": SourceDistribution})
