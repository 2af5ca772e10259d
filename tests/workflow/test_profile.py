"""Profiles of a run: the shipped ones name only what exists, and a mistake in one is told with its file and key."""

import ast
from pathlib import Path

import papermill
import pytest
import run_profile
import yaml

from tumorbench_utils import published
from tumorbench_utils.cohorts import COHORTS
from tumorbench_utils.models import MODELS

NAMES = sorted(path.stem for path in run_profile.CONFIG.glob("*.yaml"))
FROM_REGISTRY = {published.WHEEL_MODEL, *(f"{published.WHEEL_MODEL}_{control}" for control in published.CONTROLS)}
TABLES = {"registry": FROM_REGISTRY, "released": {model.id for model in MODELS}}
GOOD = {
    "cohorts": {"nsclc_radiomics": {"sources": ["registry"]}},
    "pages": {"3_knn_evaluation": {"nsclc_radiomics": {"cohort": "nsclc_radiomics", "models": ["fmcib_authors"]}}},
}


def pages(profile):
    return [(stage, page, given) for stage, group in profile["pages"].items() for page, given in group.items()]


def defaults(stage):
    """Parameters of the notebook of a stage, which hold where a page gives none."""
    known = papermill.inspect_notebook(run_profile.NOTEBOOKS / f"{stage}.ipynb")
    return {name: ast.literal_eval(each["default"]) for name, each in known.items()}


def test_the_three_profiles_are_shipped():
    assert set(NAMES) == {"quick", "released", "full"}


@pytest.mark.parametrize("name", NAMES)
def test_cohorts_variants_and_sources_are_known(name):
    for cohort, options in run_profile.load(name)["cohorts"].items():
        assert set(options["sources"]) <= set(published.SOURCES)
        assert COHORTS.get(cohort).endpoint(options.get("variant", "paper"))
        assert "released" not in options["sources"] or cohort in published.RELEASED


@pytest.mark.parametrize("name", NAMES)
def test_models_of_a_page_come_from_the_sources_of_its_cohort(name):
    profile = run_profile.load(name)
    for stage, page, given in pages(profile):
        there = set().union(*(TABLES[source] for source in profile["cohorts"][given["cohort"]]["sources"]))
        used = defaults(stage) | given
        wanted = [*used["models"], *used["controls"]]
        assert set(wanted) <= there, (stage, page)
        assert len(wanted) == len(set(wanted)), (stage, page)
        assert given["models"], (stage, page)


@pytest.mark.parametrize("name", NAMES)
def test_parameters_of_a_page_are_parameters_of_its_notebook(name):
    for stage, page, given in pages(run_profile.load(name)):
        assert set(given) | {"run", "sources", "variant"} <= set(defaults(stage)), (stage, page)


@pytest.mark.parametrize(("smaller", "larger"), [("quick", "released"), ("released", "full")])
def test_a_larger_profile_holds_every_page_of_a_smaller_one(smaller, larger):
    small, large = run_profile.load(smaller), run_profile.load(larger)
    for stage, page, given in pages(small):
        there = large["pages"][stage][page]
        for name, value in given.items():
            assert set(value) <= set(there[name]) if isinstance(value, list) else value == there[name]
    for cohort, options in small["cohorts"].items():
        assert set(options["sources"]) <= set(large["cohorts"][cohort]["sources"])


def test_released_runs_ten_models_on_six_cohorts():
    given = {page: given for _, page, given in pages(run_profile.load("released"))}
    assert set(given) == set(published.RELEASED)
    assert all({model.id for model in MODELS} <= set(each["models"]) for each in given.values())


def test_merge_lays_mappings_over_each_other_key_by_key():
    base = {"a": {"b": 1, "c": [1, 2]}, "d": 4}
    assert run_profile.merge(base, {"a": {"c": [3], "e": 5}, "f": 6}) == {
        "a": {"b": 1, "c": [3], "e": 5},
        "d": 4,
        "f": 6,
    }
    assert base == {"a": {"b": 1, "c": [1, 2]}, "d": 4}


def test_a_mapping_gives_way_to_a_plain_value_and_back():
    assert run_profile.merge({"a": {"b": 1}}, {"a": None}) == {"a": None}
    assert run_profile.merge({"a": 1}, {"a": {"b": 1}}) == {"a": {"b": 1}}


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setattr(run_profile, "CONFIG", tmp_path)

    def write(name, content):
        Path(tmp_path, f"{name}.yaml").write_text(content if isinstance(content, str) else yaml.safe_dump(content))

    write("good", GOOD)
    return write


def test_extends_is_followed_and_does_not_stay(config):
    over = {"nsclc_radiomics": {"repeats": 3}}
    config("small", {"extends": "good", "pages": {"3_knn_evaluation": over}})
    config("smaller", {"extends": "small"})
    profile = run_profile.load("smaller")
    assert set(profile) == {"cohorts", "pages"}
    assert profile["cohorts"] == GOOD["cohorts"]
    assert profile["pages"]["3_knn_evaluation"]["nsclc_radiomics"] == {
        "cohort": "nsclc_radiomics",
        "models": ["fmcib_authors"],
        "repeats": 3,
    }


COHORT = {"nsclc_radiomics": {"source": []}}
PAGE = {"3_knn_evaluation": {"luna16": {"cohort": "luna16", "models": ["fmcib"]}}}
RENAMED = {"3_knn_evaluation": {"mine": {"cohort": "nsclc_radiomics", "models": ["fmcib_authors"]}}}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"extends": "good", "page": {}}, "unknown keys ['page']"),
        ({"extends": "good", "cohorts": COHORT}, "cohort nsclc_radiomics: unknown keys ['source']"),
        ({"extends": "good", "cohorts": {"dlcs": None}}, "cohort dlcs: no sources"),
        ({"extends": "good", "pages": {"9_nothing": {}}}, "no notebook 9_nothing.ipynb"),
        ({"extends": "good", "pages": PAGE}, "page 3_knn_evaluation/luna16: its cohort is not among"),
        ({"extends": "good", "pages": {"3_knn_evaluation": {"luna16": None}}}, "page 3_knn_evaluation/luna16"),
        ({"extends": "good", "pages": RENAMED}, "page 3_knn_evaluation/mine: a page bears the name of its cohort"),
        ({"cohorts": GOOD["cohorts"]}, "no pages"),
        ("# nothing but a comment\n", "no cohorts"),
    ],
)
def test_a_mistake_is_told_with_file_and_key(config, tmp_path, content, told):
    config("wrong", content)
    with pytest.raises(SystemExit) as error:
        run_profile.load("wrong")
    assert str(tmp_path / "wrong.yaml") in str(error.value)
    assert told in str(error.value)


def test_an_unknown_profile_is_told_with_those_there_are(config):
    config("other", {"extends": "good"})
    with pytest.raises(SystemExit, match=r"no profile 'goood'.*Known: good, other"):
        run_profile.load("goood")
