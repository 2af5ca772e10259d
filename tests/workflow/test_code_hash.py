"""The hash of what a page runs: blind to prose, awake to code, and no module that is loaded is missed."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import code_hash
import pytest

from tumorbench_utils.cohorts import COHORTS
from tumorbench_utils.models import MODELS

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MODULES = sorted(
    ".".join(path.relative_to(ROOT / code_hash.PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip(".")
    for path in (ROOT / code_hash.PACKAGE).rglob("*.py")
)
ENTRY = "leaderboard_pages"  # of the modules that load most
LOADER = """
import builtins, importlib, importlib.util, json, sys
package, root, *names = sys.argv[1:]
sys.path.insert(0, root)
edges, first, real = {}, None, builtins.__import__

def noted(name, globals=None, locals=None, fromlist=(), level=0):
    result = real(name, globals, locals, fromlist, level)
    importer = (globals or {}).get("__name__") or ""
    if importer.split(".")[0] == package:
        base = importlib.util.resolve_name("." * level + name, globals["__package__"])
        imported = {base, *(f"{base}.{each}" for each in fromlist or ())}
        edges.setdefault(importer, set()).update(imported & set(sys.modules))
    return result

def loaded():
    return [each for each in sys.modules if each.split(".")[0] == package]

builtins.__import__ = noted
for name in names:
    importlib.import_module(f"{package}.{name}".rstrip("."))
    first = first or loaded()
print(json.dumps([first, {name: sorted(edges.get(name, ())) for name in loaded()}]))
"""


@pytest.fixture(scope="module")
def observed():
    """What Python really loads of the package: (with the entry alone, what each module itself imports)."""
    names = [ENTRY, *(name for name in MODULES if name != ENTRY)]
    command = [sys.executable, "-c", LOADER, code_hash.PACKAGE, str(ROOT), *names]
    first, edges = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    return set(map(inner, first)), {inner(name): within(found) for name, found in edges.items()}


def inner(name):
    """The name of a module within the package."""
    return name.removeprefix(code_hash.PACKAGE).removeprefix(".")


def within(names):
    return {inner(name) for name in names if name.split(".")[0] == code_hash.PACKAGE}


def loaded_with(name, edges):
    """All that is loaded when a module is imported: what it imports, what that imports, and the packages around."""
    found, ahead = set(), {name}
    while ahead:
        each = ahead.pop()
        found.add(each)
        ahead |= (edges[each] | {each.rpartition(".")[0]}) - found
    return found


def test_the_imports_of_single_modules_make_up_what_an_entry_loads(observed):
    first, edges = observed
    assert len(first) > 30 and set(edges) == set(MODULES)
    assert loaded_with(ENTRY, edges) == first


@pytest.mark.parametrize("name", MODULES)
def test_every_import_that_happens_is_read_from_the_source(observed, name):
    missed = observed[1][name] - code_hash.imports(code_hash.file_of(name).read_text(), name)
    assert not missed, f"not among the imports of {name or code_hash.PACKAGE}: {sorted(missed)}"


@pytest.mark.parametrize("name", [ENTRY, "plots", "published", "bank", "exchange", "models.fmcib", "cohorts.rider"])
def test_every_module_that_is_loaded_is_reached(observed, name):
    missed = loaded_with(name, observed[1]) - code_hash.reached({name})
    assert not missed, f"not in the hash of {name}: {sorted(missed)}"


def test_a_registry_reaches_every_entry():
    entries = {f"cohorts.{cohort.id}" for cohort in COHORTS} | {f"models.{model.id}" for model in MODELS}
    assert len(entries) > 15
    assert entries <= code_hash.reached({"cohorts", "models"})


def test_what_is_not_imported_is_not_reached():
    assert code_hash.reached({"registry"}) == {"registry", ""}
    assert "knn" not in code_hash.reached({"published"})
    assert code_hash.reached({"no_such_module"}) == set()


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A copy of the package and the notebooks that a test may edit."""
    for name in (code_hash.PACKAGE, "notebooks"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code_hash, "ROOT", tmp_path)
    return tmp_path


def edited(path, change):
    notebook = json.loads(path.read_text())
    change(notebook["cells"])
    path.write_text(json.dumps(notebook))
    return code_hash.of_notebook(path)


def test_every_notebook_has_a_hash_of_its_own():
    assert len({code_hash.of_notebook(path) for path in NOTEBOOKS}) == len(NOTEBOOKS) > 10


@pytest.fixture(params=["1_data_curation", "7_leaderboard", "workshop_1_leakage"])
def notebook(request, tmp_path):
    """A copy of a notebook that a test may edit; the package is that of the checkout."""
    return Path(shutil.copy(ROOT / "notebooks" / f"{request.param}.ipynb", tmp_path))


def test_prose_outputs_and_tags_do_not_count(notebook):
    before = code_hash.of_notebook(notebook)

    def prose(cells):
        written = next(cell for cell in cells if cell["cell_type"] == "markdown")
        written["source"] = ["# Another heading\n", "%with a magic in it\n", "import nothing"]
        cells.append({"cell_type": "markdown", "id": "more", "metadata": {}, "source": ["More."]})
        code = next(cell for cell in cells if cell["cell_type"] == "code")
        code |= {"execution_count": 7, "outputs": [{"output_type": "stream", "name": "stdout", "text": ["x"]}]}
        code["metadata"]["tags"] = ["hide-output"]

    assert edited(notebook, prose) == before


def test_source_as_one_string_counts_the_same(notebook):
    before = code_hash.of_notebook(notebook)

    def joined(cells):
        for cell in cells:
            cell["source"] = "".join(cell["source"])

    assert edited(notebook, joined) == before


@pytest.mark.parametrize("number", [0, -1])
def test_every_code_cell_counts(notebook, number):
    before = code_hash.of_notebook(notebook)

    def code(cells):
        [cell for cell in cells if cell["cell_type"] == "code"][number]["source"].append("\npass")

    assert edited(notebook, code) != before


def test_order_of_code_cells_counts(notebook):
    before = code_hash.of_notebook(notebook)
    assert edited(notebook, lambda cells: cells.reverse()) != before


def append(tree, module, text="\n# changed\n"):
    with open(tree / code_hash.PACKAGE / module, "a") as stream:
        stream.write(text)


@pytest.mark.parametrize("module", ["knn.py", "statistics.py", "registry.py", "cohorts/base.py", "cohorts/dlcs.py"])
def test_a_change_in_a_reached_module_counts(tree, module):
    path = tree / "notebooks" / "3_knn_evaluation.ipynb"
    before = code_hash.of_notebook(path)
    append(tree, module)
    assert code_hash.of_notebook(path) != before


def test_a_change_elsewhere_does_not_count(tree):
    path = tree / "notebooks" / "3_knn_evaluation.ipynb"
    before = code_hash.of_notebook(path), code_hash.of_module("published")
    (tree / code_hash.PACKAGE / "of_another_stage.py").write_text("from . import knn\n")
    (tree / code_hash.PACKAGE / "notes.txt").write_text("not a module\n")
    assert (code_hash.of_notebook(path), code_hash.of_module("published")) == before
    append(tree, "knn.py")
    assert code_hash.of_module("published") == before[1]  # which does not evaluate


def test_a_change_in_the_package_data_counts(tree):
    path = tree / "notebooks" / "3_knn_evaluation.ipynb"
    before = code_hash.of_notebook(path), code_hash.of_module("published")
    append(tree, "data/nsclc_radiomics_order.csv", "LUNG1-999,test\n")
    after = code_hash.of_notebook(path), code_hash.of_module("published")
    assert all(old != new for old, new in zip(before, after, strict=True))


def test_the_script_of_the_book_counts_with_all_it_shows(tree):
    script = tree / "script.py"
    script.write_text((ROOT / "workflow" / "stage_book.py").read_text())
    hashes = [code_hash.of_script(script)]
    for module in ("plots/base.py", "published.py", "models/fmcib.py", "cohorts/rider.py"):
        append(tree, module)
        hashes.append(code_hash.of_script(script))
    script.write_text(script.read_text() + "\n")
    hashes.append(code_hash.of_script(script))
    assert len(set(hashes)) == len(hashes)


@pytest.mark.parametrize(
    ("line", "module", "found"),
    [
        ("from tumorbench_utils import knn, plots", "", {"", "knn", "plots"}),
        ("from tumorbench_utils.cohorts import COHORTS", "", {"cohorts", "cohorts.COHORTS"}),
        ("from tumorbench_utils.cohorts.base import Cohort as C", "", {"cohorts.base", "cohorts.base.Cohort"}),
        ("from . import statistics", "knn", {"", "statistics"}),
        ("from .registry import Registry", "knn", {"registry", "registry.Registry"}),
        ("from .base import Cohort", "cohorts.dlcs", {"cohorts.base", "cohorts.base.Cohort"}),
        ("from .base import Cohort", "cohorts", {"cohorts.base", "cohorts.base.Cohort"}),
        ("from ..registry import Registry", "cohorts", {"registry", "registry.Registry"}),
        ("from .. import registry", "cohorts.dlcs", {"", "registry"}),
        ("def f():\n    from . import plots", "knn", {"", "plots"}),
        ("import tumorbench_utils.knn", "", {"knn"}),
        ("import tumorbench_utils as tb", "", {""}),
        ("import numpy\nfrom pandas import DataFrame", "knn", set()),
        ("from tumorbench_utils_other import knn", "", set()),
    ],
)
def test_imports_are_resolved(line, module, found):
    assert code_hash.imports(line, module) == found


def test_a_magic_does_not_stop_the_parser(tmp_path):
    source = ["if True:\n", "    %pip install x\n", "%matplotlib inline\n", "from tumorbench_utils import registry\n"]
    cells = [{"cell_type": "code", "source": source}]
    path = tmp_path / "magic.ipynb"
    path.write_text(json.dumps({"cells": cells}))
    assert code_hash.of_notebook(path) == code_hash.digest(["".join(source)], {"", "registry"})
