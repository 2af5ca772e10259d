"""The package is a house of floors: imports go down only, modules stay small, and importing it touches no network."""

import ast
import json
import os
import subprocess
import sys
from importlib.util import resolve_name
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "tumorbench_utils"
MODULES = sorted(PACKAGE.rglob("*.py"))
MAX_LINES = 400
NETWORKS = "networks"  # the one room of torch modules: it imports torch, and nothing imports it outside a function

FLOORS = [  # from the ground up; a room is a module or a package
    {"registry", "artefacts", "safe_pickle", "parameters", "imaging", "parallel", "networks"},
    {"masks", "sources", "buckets", "storage", "phantom"},
    {"cohorts"},
    {"annotations"},
    {"patches", "curation"},
    {"models"},
    {"bank"},
    {"pages", "provision"},
    {"embeddings"},
    {"extraction", "diagnostics"},
    {"statistics"},
    {"knn"},
    {"published", "robustness", "saliency", "alignment", "probes", "leaderboard", "exchange"},
    {"stress", "maps", "ensembles", "tables"},
    {"plots"},
    {"cards"},
    {"model_pages", "doctor", "robustness_pages", "saliency_pages"},
    {"probe_pages", "external_pages", "alignment_pages", "leaderboard_pages", "workshop"},
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
ROOMS = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in MODULES} - {"__init__"}


def name_of(path):
    return str(path.relative_to(PACKAGE))


def imported(source, path):
    """Full names of all that a module of the package at ``path`` imports, in functions too."""
    package = ".".join([PACKAGE.name, *path.relative_to(PACKAGE).parent.parts])
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def rooms_entered(source, path):
    """Rooms of the package, other than its own, that a module imports from."""
    parts = (name.split(".") for name in imported(source, path))
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return {name[1] for name in parts if name[0] == PACKAGE.name and len(name) > 1 and name[1] in ROOMS} - {own}


def climbs(source, path):
    """Imports that do not go strictly down."""
    own = FLOOR[path.relative_to(PACKAGE).parts[0].removesuffix(".py")]
    return {room for room in rooms_entered(source, path) if FLOOR[room] >= own}


def public(tree):
    """Public functions, classes and methods of a module."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from public(node)


def test_every_room_has_one_floor():
    assert set(FLOOR) == ROOMS
    assert sum(map(len, FLOORS)) == len(ROOMS)


@pytest.mark.parametrize("path", [path for path in MODULES if path != PACKAGE / "__init__.py"], ids=name_of)
def test_imports_go_down(path):
    assert not climbs(path.read_text(encoding="utf-8"), path)


@pytest.mark.parametrize(
    ("place", "source", "rooms"),
    [
        ("registry.py", "from . import knn", {"knn"}),
        ("registry.py", "from .knn import PROTOCOLS", {"knn"}),
        ("registry.py", "import tumorbench_utils.plots as p", {"plots"}),
        ("registry.py", "from tumorbench_utils import plots", {"plots"}),
        ("registry.py", "def f():\n    from .plots import table", {"plots"}),
        ("registry.py", "from . import artefacts", {"artefacts"}),  # of the same floor
        ("cohorts/rider.py", "from ..annotations import check", {"annotations"}),
        ("cohorts/rider.py", "from .. import models", {"models"}),
        ("models/voco.py", "from ..patches import BENCHMARK", set()),
        ("cohorts/__init__.py", "from ..embeddings import read", {"embeddings"}),
        (
            "cohorts/__init__.py",
            "from ..registry import Registry\nfrom . import rider",
            set(),
        ),
        ("knn.py", "from . import __version__, statistics\nimport tumorbench\nimport numpy.plots", set()),
    ],
)
def test_climbing_imports_are_seen(place, source, rooms):
    assert climbs(source, PACKAGE / place) == rooms


def test_the_package_itself_imports_no_room():
    path = PACKAGE / "__init__.py"
    assert not rooms_entered(path.read_text(encoding="utf-8"), path)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_modules_are_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) < MAX_LINES


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_public_things_are_described(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    assert [node.name for node in public(tree) if not ast.get_docstring(node)] == []


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_every_room_has_its_tests(room):
    assert (ROOT / "tests" / f"test_{room}.py").exists()


IMPORT_ALL = """
import importlib, json, pkgutil, sys

touched = []
NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg")

def watch(event, arguments):
    # noted too, since who is refused may go on; binding to this host, by which urllib3 finds IPv6, is no call
    if event in NETWORK:
        touched.append(f"{event} {arguments[1:]}")
        raise ConnectionRefusedError(event)

sys.addaudithook(watch)
import tumorbench_utils

names = [module.name for module in pkgutil.walk_packages(tumorbench_utils.__path__, "tumorbench_utils.")]
names = [name for name in names if not name.startswith("tumorbench_utils.networks.")]  # torch modules
for name in names:
    importlib.import_module(name)
if "call" in sys.argv:
    import requests
    try:
        requests.get("http://127.0.0.1:9/")
    except requests.ConnectionError:
        pass
print(json.dumps({"names": names, "touched": touched, "loaded": sorted(sys.modules)}))
"""


def import_all(cache, *arguments):
    environment = os.environ | {"TUMORBENCH_CACHE": str(cache), "NO_PROXY": "127.0.0.1"}
    command = [sys.executable, "-c", IMPORT_ALL, *arguments]
    return json.loads(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


@pytest.mark.parametrize("path", [path for path in MODULES if path.parent.name != NETWORKS], ids=name_of)
def test_networks_are_imported_in_functions_only(path):
    top = ast.Module([node for node in ast.parse(path.read_text(encoding="utf-8")).body if is_import(node)], [])
    assert NETWORKS not in rooms_entered(ast.unparse(top), path)


def is_import(node):
    return isinstance(node, (ast.Import, ast.ImportFrom))


def test_importing_everything_is_light_and_reaches_no_network(tmp_path):
    seen = import_all(tmp_path / "cache")
    light = [path for path in MODULES if path.parent.name != NETWORKS or path.name == "__init__.py"]
    assert len(seen["names"]) == len(light) - 1  # all but the package itself
    assert seen["touched"] == []
    assert not {"torch", "optuna", "monai", "SimpleITK", "snakemake", "papermill"} & set(seen["loaded"])
    assert not (tmp_path / "cache").exists()


def test_reaching_the_network_would_be_seen(tmp_path):
    assert import_all(tmp_path / "cache", "call")["touched"]
