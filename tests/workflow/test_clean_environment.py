"""The exercises as a class meets them: a fresh Python of 3.12 or newer, the cell that installs, the notebooks in order.

The installing cell is run as it stands. Git is told, in the environment, to find the repository that the cell names in
a local one, made of the files of this checkout, committed or not, under the tag that the cell names.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tumorbench_utils import __version__, workshop

ROOT = Path(__file__).parents[2]
EXERCISES = sorted((ROOT / "notebooks").glob("workshop_*.ipynb"))
FIRST, *LATER = EXERCISES
OLDEST, NEWEST = (3, 12), (3, 13)  # that the package allows
HEAVY = ["torch", "monai", "zarr", "SimpleITK"]
KERNEL = "clean"
AT_A_TIME = 2
each_exercise = pytest.mark.parametrize("path", EXERCISES, ids=lambda path: path.stem)


def version_of(python):
    """(3, 12) of an interpreter, None if it does not run (as a shim without a version behind it)."""
    done = subprocess.run([python, "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, text=True)
    return tuple(map(int, done.stdout.split())) if done.returncode == 0 else None


def candidates():
    """Interpreters that may be there, the newest version first."""
    for minor in range(NEWEST[1], OLDEST[1] - 1, -1):
        yield shutil.which(f"python3.{minor}")
        versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
        yield from sorted(map(str, versions.glob(f"3.{minor}.*/bin/python")), reverse=True)


def newest_python():
    """The newest Python of 3.12 or later that runs; else the one that runs this test, with a warning."""
    for python in filter(None, candidates()):
        if OLDEST <= (version_of(python) or (0,)) <= NEWEST:
            return python
    warnings.warn(
        f"no Python from 3.12 to 3.13 was found: the exercises run in a clean environment of {sys.version.split()[0]}",
        stacklevel=2,
    )
    return sys.executable


def install_of(path):
    """URL and tag from which the first cell of a notebook installs the package."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    (cell,) = ["".join(each["source"]) for each in cells if each["id"] == "install"]
    return re.search(r"git\+(https://[^@\"]+)@([^\"]+)\"", cell).groups()


def tagged_repository(folder, tag):
    """A repository of this checkout's files as they are now, with one commit that has the tag."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    identity = ["-c", "user.name=Test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "-A", "-f"], ["commit", "-q", "-m", "As it is"], ["tag", tag]):
        subprocess.run(["git", *identity, *command], cwd=folder, check=True, capture_output=True)
    return folder


@dataclass(frozen=True)
class Clean:
    """A virtual environment with nothing but a kernel, the folder in which a class works, and what became of each
    exercise there. ``before``: whether the package could be imported before the first cell ran."""

    python: Path
    folder: Path
    environment: dict
    before: bool

    def run(self, *arguments):
        return subprocess.run([self.python, *arguments], cwd=self.folder, env=self.environment, capture_output=True,
                              text=True, timeout=600)  # fmt: skip

    def execute(self, path):
        """Run a notebook with the environment's kernel, as it is, with all its defaults."""
        command = [sys.executable, "-m", "papermill", "--no-progress-bar", "-k", KERNEL, path, f"{path.stem}.ipynb"]
        started = time.monotonic()
        done = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True,
                              timeout=600)  # fmt: skip
        print(f"{path.stem}: {time.monotonic() - started:.0f} s")
        return done

    def outputs(self, path, cell):
        """Text that a cell printed."""
        cells = json.loads((self.folder / f"{path.stem}.ipynb").read_text(encoding="utf-8"))["cells"]
        (found,) = [each for each in cells if each["id"] == cell]
        return "".join("".join(each.get("text", "")) for each in found["outputs"])

    def tables(self, path):
        """The results of an exercise: tables and their records, by name."""
        folder = self.folder / "runs/workshop/results" / path.stem
        return {each.stem: (pd.read_csv(each), json.loads(each.with_suffix(".provenance.json").read_text()))
                for each in sorted(folder.glob("*.csv"))}  # fmt: skip


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    home = tmp_path_factory.mktemp("clean")
    (url, tag), folder = install_of(FIRST), home / "class"
    for name in (folder, home / "repository"):
        name.mkdir()
    repository = tagged_repository(home / "repository", tag)
    subprocess.run([newest_python(), "-m", "venv", home / "venv"], check=True, capture_output=True)
    python = home / "venv/bin/python"
    environment = {name: value for name, value in os.environ.items()
                   if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "JUPYTER_PATH",
                                   "PYTHONDONTWRITEBYTECODE")}  # fmt: skip
    environment |= {
        "PYTHONNOUSERSITE": "1",
        "JUPYTER_PATH": str(home / "venv/share/jupyter"),
        "PIP_NO_COMPILE": "0",  # on, as pip reads it: Python compiles what is imported, which is far less
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{repository.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": url,
    }
    made = Clean(python, folder, environment, before=False)
    for command in (["-m", "pip", "install", "-q", "ipykernel"],
                    ["-m", "ipykernel", "install", "--sys-prefix", "--name", KERNEL]):  # fmt: skip
        done = made.run(*command)
        assert done.returncode == 0, done.stderr
    before = made.run("-c", "import tumorbench_utils").returncode == 0
    return Clean(python, folder, environment, before)


@pytest.fixture(scope="module")
def done(clean):
    """What papermill said of every exercise; the first one installs the package for all."""
    found = {FIRST: clean.execute(FIRST)}
    assert found[FIRST].returncode == 0, found[FIRST].stderr
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        return found | dict(zip(LATER, pool.map(clean.execute, LATER), strict=True))


def test_there_are_five_exercises_and_all_install_the_same():
    assert [path.stem.split("_")[1] for path in EXERCISES] == ["1", "2", "3", "4", "5"]
    assert {install_of(path) for path in EXERCISES} == {("https://github.com/tumorbench/tumorbench", f"v{__version__}")}


@each_exercise
def test_an_exercise_runs_from_its_first_cell_in_a_clean_environment(done, path):
    assert done[path].returncode == 0, done[path].stderr


def test_the_first_cell_installed_the_tagged_package_and_nothing_heavy(clean, done):
    assert not clean.before
    asked = "import importlib.util as u, json, sys, tumorbench_utils as t; from importlib.metadata import distribution"
    asked += f"; print(json.dumps([t.__file__, [name for name in {HEAVY} if u.find_spec(name)], sys.version_info[:2]"
    asked += ", json.loads(distribution('tumorbench').read_text('direct_url.json'))]))"
    file, heavy, version, origin = json.loads(clean.run("-c", asked).stdout)
    assert Path(file).is_relative_to(clean.python.parents[1])
    assert heavy == []
    assert tuple(version) == version_of(newest_python())
    assert (origin["url"], origin["vcs_info"]["requested_revision"]) == install_of(FIRST)


@each_exercise
def test_an_exercise_says_what_it_verified(clean, done, path):
    said = clean.outputs(path, "provide")
    assert f"tumorbench {__version__}, as pinned." in said
    assert re.search(r"SHA-256 [0-9a-f]{16}\.\.\., as expected", said)


@each_exercise
def test_results_come_with_a_record_of_this_environment_and_of_known_inputs(clean, done, path):
    tables = clean.tables(path)
    assert tables
    for table, record in tables.values():
        assert len(table)
        assert record["versions"]["tumorbench"] == __version__ and "torch" not in record["versions"]
        assert tuple(map(int, record["versions"]["python"].split(".")[:2])) == version_of(newest_python())
        known = {name: digest for name, digest in record["inputs"].items() if name in workshop.INPUTS}
        assert known and known == {name: workshop.INPUTS[name] for name in known}


STABLE, CHANCE = (ROOT / "notebooks" / f"workshop_{name}.ipynb" for name in ("4_stability", "5_chance_alignment"))


def test_stability_has_the_known_cosines_and_what_is_made_up_is_stable_and_useless(clean, done):
    table = clean.tables(STABLE)["stability"][0]
    reference = table[table["part"] == "reference"].set_index(["change", "measure"])["value"]
    # as recomputed from the released embeddings, with four lines of NumPy
    assert reference["tumour shuffled", "cosine"] == pytest.approx(0.970, abs=0.001)
    assert reference["surroundings shuffled", "cosine"] == pytest.approx(0.909, abs=0.001)
    games = table[table["part"] == "two axes"].set_index(["embedding", "measure"])["value"]
    assert games["fingerprint of the name", "identification"] == 1
    assert games["fingerprint of the name", "AUC"] == pytest.approx(0.5, abs=0.06)
    assert games["a constant of 3 added", "AUC"] == games["as given", "AUC"]
    assert games["a constant of 3 added", "cosine"] == pytest.approx((games["as given", "cosine"] + 9) / 10, abs=1e-9)


def test_alignment_has_the_known_overlaps(clean, done):
    table = clean.tables(CHANCE)["chance_alignment"][0]
    real = table[table["part"] == "real pairs"].set_index("title")
    known = {
        "original – tumour shuffled": 5.95,
        "tumour shuffled – tumour resampled": 8.69,
        "surroundings shuffled – surroundings resampled": 7.53,
    }
    assert real.loc[list(known), "shared"].to_dict() == pytest.approx(known, abs=0.005)
    assert np.allclose(real["chance"], 100 / 420) and (real["n"] == 421).all()


WRONG = """
from tumorbench_utils import workshop
name, digest = next(iter(workshop.INPUTS.items()))
for version, found in (("9.9.9", digest), (VERSION, "0" * 64)):
    try:
        print(workshop.checked(version, {name: found}, {}))
    except workshop.WorkshopError as error:
        print(error)
"""


def test_another_version_or_other_data_stop_an_exercise_and_say_what_to_do(clean, done):
    said = clean.run("-c", WRONG.replace("VERSION", repr(__version__))).stdout.splitlines()
    assert len(said) == 2
    assert said[0].startswith(f"this notebook was written for tumorbench 9.9.9, but {__version__} is installed")
    assert f"SHA-256 is {'0' * 64}, expected" in said[1] and "must not be trusted" in said[1]
