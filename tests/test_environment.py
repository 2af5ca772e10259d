"""The files that say what the project needs, where it lives and which version it is agree with each other."""

import ast
import json
import os
import re
import sys
import tomllib
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from tumorbench_utils import __version__

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
REPOSITORY = PROJECT["project"]["urls"]["Repository"]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
WITHOUT_IMAGES = {"3_knn_evaluation", "3b_beyond_knn", "6_representation_alignment", "7_leaderboard"} | {  # by default
    path.stem for path in NOTEBOOKS if path.stem.startswith("workshop_")
}
CONDA_NAMES = {  # where conda's name is another
    "matplotlib-base": "matplotlib",
    "python-duckdb": "duckdb",
    "python-isal": "isal",
    "pytorch": "torch",
    "seaborn-base": "seaborn",
    "snakemake-minimal": "snakemake",
}


def text_of(name):
    return (ROOT / name).read_text(encoding="utf-8")


def yaml_of(name):
    return yaml.safe_load(text_of(name))


def bounds(lines):
    """Version bounds by canonical name; a name listed twice is an error."""
    requirements = [Requirement(line) for line in lines]
    found = {canonicalize_name(each.name): each.specifier for each in requirements}
    assert len(found) == len(requirements)
    return found


def project_bounds():
    extras = PROJECT["project"]["optional-dependencies"].values()
    return bounds([*PROJECT["project"]["dependencies"], *(line for extra in extras for line in extra)])


def conda_lines():
    """Lines of environment.yml for conda, and those for pip without its options."""
    lines = yaml_of("environment.yml")["dependencies"]
    with_pip = next(line["pip"] for line in lines if isinstance(line, dict))
    conda = [line for line in lines if isinstance(line, str)]
    return conda, [line for line in with_pip if not line.startswith("-")]


def pinned():
    lines = [line for line in text_of("constraints.txt").splitlines() if line and not line.startswith("#")]
    return bounds(lines)


def supported_pythons():
    """Minor versions of Python that pyproject.toml allows: "3.11", ..."""
    allowed = SpecifierSet(PROJECT["project"]["requires-python"])
    return [f"3.{minor}" for minor in range(40) if f"3.{minor}.5" in allowed]


def sources_of(notebook):
    return ["".join(cell["source"]) for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]]


def install_lines(notebook):
    return [line for source in sources_of(notebook) for line in source.splitlines() if "pip install" in line]


# Dependencies


def test_conda_and_pip_get_the_same_dependencies():
    conda, with_pip = conda_lines()
    named = bounds(conda) | bounds(with_pip)
    del named["pip"], named["python"]
    assert {CONDA_NAMES.get(name, name): specifier for name, specifier in named.items()} == project_bounds()


def imports_of(statements):
    """Top-level names of the packages that statements import absolutely."""
    for node in statements:
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.partition(".")[0]


owners_of_packages = cache(metadata.packages_distributions)  # which reads the records of everything installed


@pytest.mark.parametrize("path", sorted((ROOT / "tumorbench_utils").rglob("*.py")), ids=lambda path: path.stem)
def test_what_the_package_imports_is_named(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    owners = owners_of_packages()
    always, ever = (
        {canonicalize_name(owners[name][0]) for name in imports_of(nodes) if name not in sys.stdlib_module_names}
        for nodes in (tree.body, ast.walk(tree))
    )
    if path.parent.name != "networks":  # torch modules, which are imported in functions
        assert always <= set(bounds(PROJECT["project"]["dependencies"]))  # so an import in a function may need an extra
    assert ever <= set(project_bounds())


def test_conda_installs_the_checkout_itself():
    with_pip = next(line["pip"] for line in yaml_of("environment.yml")["dependencies"] if isinstance(line, dict))
    assert "--no-deps --editable ." in with_pip


@pytest.mark.parametrize(("name", "specifier"), project_bounds().items())
def test_dependency_is_pinned_within_its_bounds(name, specifier):
    assert specifier, "a lower bound is missing"
    (pin,) = pinned()[name]
    assert pin.operator == "=="
    assert pin.version in specifier


def test_every_constraint_is_one_version():
    for name, specifier in pinned().items():
        assert [pin.operator for pin in specifier] == ["=="], name


# Python


def test_pythons_agree():
    pythons = supported_pythons()
    assert len(pythons) >= 2
    matrix = yaml_of(".github/workflows/book.yml")["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert matrix == pythons
    assert PROJECT["tool"]["ruff"]["target-version"] == "py" + pythons[0].replace(".", "")
    conda = bounds(conda_lines()[0])["python"]
    assert conda == SpecifierSet(PROJECT["project"]["requires-python"])
    for name in (".ci/run", "Makefile"):
        assert f"{pythons[0]} to {pythons[-1]}" in text_of(name), name


def test_makefile_takes_the_supported_pythons():
    check = re.search(r"\((\d+), (\d+)\) <= sys\.version_info < \((\d+), (\d+)\)", text_of("Makefile"))
    low, high = tuple(map(int, check.groups()[:2])), tuple(map(int, check.groups()[2:]))
    taken = [f"3.{minor}" for minor in range(40) if low <= (3, minor, 5) < high]
    assert taken == supported_pythons()


def test_book_is_built_on_a_supported_python():
    steps = yaml_of(".github/workflows/book.yml")["jobs"]["book"]["steps"]
    (python,) = [step["with"]["python-version"] for step in steps if "setup-python" in step.get("uses", "")]
    assert python in supported_pythons()


# Repository and version


def repositories_in(text):
    """Addresses of repositories of this project's name, whoever owns them."""
    name = re.escape(REPOSITORY.rsplit("/", 1)[1])
    return set(re.findall(rf"https?://(?:www\.)?github\.com/[\w.-]+/{name}(?![\w-])", text, re.IGNORECASE))


@pytest.mark.parametrize("name", ["book/_config.yml", "CITATION.cff", "CHANGELOG.md"])
def test_repository_is_the_same_in(name):
    assert repositories_in(text_of(name)) == {REPOSITORY}


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_installs_this_version_of_this_repository(notebook):
    (line,) = install_lines(notebook)
    extra = "" if notebook.stem in WITHOUT_IMAGES else "[imaging]"
    name = PROJECT["project"]["name"] + extra
    assert line.strip() == f'%pip install --quiet "{name} @ git+{REPOSITORY}@v{__version__}"'


def test_no_page_names_another_repository():
    pages = [*ROOT.glob("*.md"), *(ROOT / "book").glob("*.md"), *(ROOT / ".github").rglob("*.*"), *NOTEBOOKS]
    elsewhere = {page.name: repositories_in(page.read_text(encoding="utf-8")) - {REPOSITORY} for page in pages}
    assert {page: found for page, found in elsewhere.items() if found} == {}


def test_citation_is_of_this_version():
    citation = yaml_of("CITATION.cff")
    assert str(citation["version"]) == __version__
    assert citation["license"] == PROJECT["project"]["license"]


def test_changelog_knows_this_version():
    assert re.search(rf"(?<![\d.]){re.escape(__version__)}(?!\d)", text_of("CHANGELOG.md"))


# The check of everything


def test_ci_runs_what_contributors_run():
    steps = re.findall(r"^step '[^']+' (.+)$", text_of(".ci/run"), re.MULTILINE)
    assert {"make test", "make book", "make lint"} <= set(steps)
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    targets = set(re.findall(r"^(\w+):", text_of("Makefile"), re.MULTILINE))
    assert {"test", "book", "lint"} <= targets


def test_pull_requests_run_the_whole_check_and_the_tests_on_every_python():
    jobs = yaml_of(".github/workflows/book.yml")["jobs"]
    assert ".ci/run" in [step.get("run") for step in jobs["book"]["steps"]]
    assert "make test" in [step.get("run") for step in jobs["test"]["steps"]]
