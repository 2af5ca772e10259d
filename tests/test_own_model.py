"""The chapter on models of one's own: its code runs as printed, in a notebook and as an installed package."""

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tumorbench_utils import embeddings
from tumorbench_utils.models import MODELS, TEN, loading
from tumorbench_utils.registry import UnknownNameError

ROOT = Path(__file__).parents[1]
CHAPTER = (ROOT / "book" / "own_model.md").read_text(encoding="utf-8")


def block(caption):
    """The code block of the chapter under a caption."""
    return re.search(rf"```{{code-block}} \w+\n:caption: {re.escape(caption)}\n(.*?)```", CHAPTER, re.DOTALL)[1]


def python(folder, *arguments, path=()):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *map(str, path)])}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The folder in which the cell of the chapter has run."""
    folder = tmp_path_factory.mktemp("cell")
    done = python(folder, "-c", block("In a cell"))
    assert done.returncode == 0, done.stderr
    return folder


def test_an_encoder_in_under_twenty_lines(ran):
    assert len([line for line in block("In a cell").splitlines() if line.strip()]) < 20
    path = re.search(r"`(runs/mine/\S+\.parquet)`", CHAPTER)[1]
    table = embeddings.read(ran / path)
    assert sorted(table.sample_id) == ["lung1", "lung2"]
    assert table.vectors.shape == (2, 1024)
    assert table.provenance["parameters"]["untrained"]


def test_the_checkpoint_of_the_chapter_fits_its_model(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    names = {}
    exec(block("A checkpoint on a hub"), names)
    exec(block("In a cell").split("recipe =")[0], names)
    state = {f"encoder.{key}": value for key, value in names["build"]().state_dict().items()}
    save_file(state | {"encoder.projection.weight": torch.zeros(2, 2)}, tmp_path / names["checkpoint"].file)
    weights = loading.load(names["build"](), names["checkpoint"], tmp_path / names["checkpoint"].file)
    assert (weights.loaded, weights.dropped) == (names["checkpoint"].keys, 1)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The package of the chapter, installed by pip into a folder."""
    folder = tmp_path_factory.mktemp("package")
    for name in ("pyproject.toml", "my_ct_model.py"):
        (folder / name).write_text(block(name))
    pip = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = python(folder, *pip, "--target", "site", ".")
    assert done.returncode == 0, done.stderr
    return folder / "site"


def test_a_package_brings_its_model(installed, tmp_path):
    code = "from tumorbench_utils.models import MODELS; print(MODELS.get('my_ct_model').title, len(MODELS))"
    assert python(tmp_path, "-c", code, path=[installed]).stdout == f"My CT model {len(TEN) + 5}\n"
    with pytest.raises(UnknownNameError, match="unknown model 'my_ct_model'"):
        MODELS.get("my_ct_model")  # here it is not installed


def test_a_notebook_runs_the_model_of_a_package(installed, ran, tmp_path):
    for name in ("annotations", "patches"):  # the same images, not read again
        shutil.copytree(ran / "runs" / "mine" / name, tmp_path / "mine" / name)
    given = {"model": "my_ct_model", "weights": "random", "cohorts": ["lung_ct"], "run": str(tmp_path / "mine")}
    notebook = str(ROOT / "notebooks" / "2_embedding_extraction.ipynb")
    papermill = ["-m", "papermill", "--no-progress-bar", notebook, "out.ipynb", "--parameters_yaml", json.dumps(given)]
    done = python(tmp_path, *papermill, path=[installed])
    assert done.returncode == 0, done.stderr
    table = embeddings.read(tmp_path / "mine/embeddings/lung_ct/my_ct_model.benchmark.untrained.parquet")
    assert table.vectors.shape == (2, 8)


def test_a_broken_package_is_named_and_left_out(tmp_path):
    info = tmp_path / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[tumorbench.models]\nbroken = no_such_module:MODEL\n")
    code = textwrap.dedent("""
        import warnings
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            from tumorbench_utils.models import MODELS
        print(len(MODELS), *[each.message for each in caught if "broken" in str(each.message)])
    """)
    done = python(tmp_path, "-c", code, path=[tmp_path])
    assert done.stdout.startswith(
        f"{len(TEN) + 4} model 'broken' of no_such_module:MODEL was left out: No module named"
    )
