"""Profiles of a run: the shipped ones name only what exists, and a mistake in one is told with its file and key."""

import ast
from pathlib import Path

import papermill
import pytest
import run_profile
import yaml

from tumorbench_utils import provision, published, sources
from tumorbench_utils.cohorts import COHORTS, STUDY, is_phantom, released
from tumorbench_utils.models import MODELS, TEN, called

NAMES = sorted(path.stem for path in run_profile.CONFIG.glob("*.yaml"))
TABLES = {source: set(published.tables([source])) for source in published.SOURCES}
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
        given, known = options.get("sources", []), COHORTS.get(cohort)
        assert set(given) <= set(published.SOURCES)
        assert not known.endpoints or known.endpoint(options.get("variant", "paper"))
        assert "released" not in given or cohort in published.RELEASED


@pytest.mark.parametrize("name", NAMES)
def test_tables_of_a_page_are_published_or_extracted_for_each_of_its_cohorts(name):
    profile = run_profile.load(name)
    reading = [each for each in pages(profile) if each[0] in run_profile.OF_TABLES]
    assert {stage for stage, _, _ in reading} == set(run_profile.OF_TABLES)
    for stage, page, given in reading:
        used = defaults(stage) | given
        wanted = [*used["models"], *used.get("controls", [])]
        assert len(wanted) == len(set(wanted)), (stage, page)
        for cohort in run_profile.cohorts_of(given):
            made = [table for table, maker in run_profile.tables(profile, cohort).items() if maker]
            sources = profile["cohorts"][cohort].get("sources", [])
            assert set(wanted) <= set(made).union(*(TABLES[source] for source in sources)), (stage, page, cohort)
        assert given["models"], (stage, page)


@pytest.mark.parametrize("name", NAMES)
def test_parameters_of_a_page_are_parameters_of_its_notebook(name):
    profile = run_profile.load(name)
    for stage, page, _ in pages(profile):
        given = {"run": "", **run_profile.parameters(profile, stage, page)}
        assert set(given) <= set(defaults(stage)), (stage, page)
        for name, value in given.items():
            assert type(value) is type(defaults(stage)[name]), (stage, page, name)


@pytest.mark.parametrize("name", NAMES)
def test_every_cohort_has_a_page_of_curation(name):
    profile = run_profile.load(name)
    assert set(profile["pages"][run_profile.CURATION]) == set(profile["cohorts"])
    open_ones = {"phantom", "phantom_retest", "phantom_a", "phantom_b", "lung_ct"}
    assert {cohort.id for cohort in STUDY} | open_ones <= set(profile["cohorts"])


@pytest.mark.parametrize("name", NAMES)
def test_labels_and_images_of_a_page_are_those_that_its_cohort_has(name):
    profile = run_profile.load(name)
    for cohort in profile["pages"][run_profile.CURATION]:
        given, known = run_profile.parameters(profile, run_profile.CURATION, cohort), COHORTS.get(cohort)
        assert given["labels"] != "released" or cohort in released.TABLES
        assert given["labels"] != "lidc" or cohort == "luna16"
        assert given["labels"] != "zenodo" or isinstance(known.images, sources.Zenodo)
        assert given["labels"] != "cases" or given["images"] == ("phantom" if is_phantom(cohort) else cohort)
        assert given["images"] != "idc" or isinstance(known.images, sources.Idc)


@pytest.mark.parametrize("name", NAMES)
def test_every_output_has_one_rule(name):
    """An annotation table comes with published embeddings or from curation, never from both."""
    profile = run_profile.load(name)
    written = [f"annotations/{cohort}.csv" for cohort, options in profile["cohorts"].items() if options.get("sources")]
    for stage, page, _ in pages(profile):
        written += run_profile.files(profile, stage, page)
    assert len(written) == len(set(written))
    read = [path for stage, page, _ in pages(profile) for path in run_profile.inputs(profile, stage, page).values()]
    assert {path for path in read if path.startswith("annotations/")} <= set(written)


def curated(cohort_options=None, **given):
    """A profile of one page of curation."""
    pages = {run_profile.CURATION: {"dlcs": {"cohort": "dlcs", **given}}}
    return {"cohorts": {"dlcs": cohort_options or {}}, "pages": pages}


PUBLISHED = {"sources": ["released"]}


@pytest.mark.parametrize(
    ("profile", "reads", "writes"),
    [
        (curated(), [], []),
        (curated(labels="zenodo"), [], ["annotations/dlcs.csv"]),
        (curated(images="own"), [], []),
        (curated(PUBLISHED), ["annotations/dlcs.csv"], []),
        (curated(PUBLISHED, labels="zenodo"), ["annotations/dlcs.csv"], []),
    ],
    ids=["nothing", "labels", "images alone", "published", "published, labels"],
)
def test_what_a_page_of_curation_reads_and_writes(profile, reads, writes):
    page = run_profile.CURATION, "dlcs"
    assert list(run_profile.inputs(profile, *page).values()) == reads
    assert run_profile.files(profile, *page) == writes
    assert run_profile.parameters(profile, *page)["write"] == (not reads)


def test_a_page_of_evaluation_reads_embeddings_and_writes_results_alone():
    page = run_profile.EVALUATION, "nsclc_radiomics"
    read = run_profile.inputs(GOOD, *page)
    assert read.pop("annotations_nsclc_radiomics") == "annotations/nsclc_radiomics.csv"
    expected = {f"embeddings/nsclc_radiomics/{table}.parquet" for table in published.tables(["registry"])}
    assert set(read.values()) == expected and len(expected) == 5
    assert run_profile.files(GOOD, *page) == []
    given = run_profile.parameters(GOOD, *page)
    assert (given["sources"], given["variant"]) == (["registry"], "paper")


def as_much(name, value, there):
    """Whether a larger profile has all of a parameter; any table of a model stands for another, as trained ones do."""
    if name in ("most", "steps", "twins", "trials", "k_max", "draws", "repeats", "few_shot_draws", "nulls"):
        return there >= value
    if name == "twin_cohorts":  # none named: all
        return not there or set(value) <= set(there)
    if name in ("models", "stressed", "beside"):
        return {run_profile.model_of(table) for table in value} <= {run_profile.model_of(table) for table in there}
    return set(value) <= set(there) if isinstance(value, list | dict) else value == there


def test_full_keeps_every_published_table_of_a_page_of_released_beside_its_own():
    small, large = run_profile.load("released"), run_profile.load("full")
    for stage in (run_profile.EVALUATION, run_profile.BEYOND, run_profile.EXTERNAL, run_profile.ALIGNMENT):
        for page, given in small["pages"][stage].items():
            wanted, there = set(given["models"]) & set().union(*TABLES.values()), large["pages"][stage][page]
            assert wanted <= {*there["models"], *there.get("controls", [])}, (stage, page)


@pytest.mark.parametrize(("smaller", "larger"), [("quick", "released"), ("released", "full")])
def test_a_larger_profile_holds_every_page_of_a_smaller_one(smaller, larger):
    small, large = run_profile.load(smaller), run_profile.load(larger)
    for stage, page, given in pages(small):
        there = large["pages"][stage][page]
        if given.get("weights") == "random":  # a stand-in where no hub can be reached
            given = {name: value for name, value in given.items() if name not in ("weights", "trials")}
        for name, value in given.items():
            assert as_much(name, value, there[name]), (stage, page, name)
    for cohort, options in small["cohorts"].items():
        assert set(options.get("sources", [])) <= set(large["cohorts"][cohort].get("sources", []))


def test_a_model_whose_weights_are_not_installed_is_left_out_and_named(config, monkeypatch):
    given = {"model": "astra", "cohorts": ["dlcs"]}
    pages = {run_profile.CURATION: {"dlcs": DLCS}, run_profile.EXTRACTION: {"astra": given}}
    config("trained", {"extends": "good", "cohorts": {"dlcs": None}, "pages": pages})
    assert "left_out" not in run_profile.load("trained")
    monkeypatch.setattr(run_profile.models, "installed", lambda model: model.id != "astra")
    profile = run_profile.load("trained")
    assert profile["left_out"] == ["astra"] and profile["pages"][run_profile.EXTRACTION] == {}
    pages[run_profile.EXTRACTION]["astra"] = given | {"weights": "random"}
    config("untrained", {"extends": "good", "cohorts": {"dlcs": None}, "pages": pages})
    assert "left_out" not in run_profile.load("untrained")


EXTRACTED = {
    "cohorts": {"phantom": None},
    "pages": {
        run_profile.CURATION: {"phantom": {"cohort": "phantom"}},
        run_profile.EXTRACTION: {"suprem": {"model": "suprem", "cohorts": ["phantom"], "weights": "random"}},
    },
}


def test_a_page_of_extraction_follows_the_curation_of_its_cohorts():
    page = run_profile.EXTRACTION, "suprem"
    assert list(run_profile.inputs(EXTRACTED, *page).values()) == [f"results/{run_profile.CURATION}/phantom.csv"]
    assert run_profile.files(EXTRACTED, *page) == []
    assert run_profile.parameters(EXTRACTED, *page) == EXTRACTED["pages"][run_profile.EXTRACTION]["suprem"]


@pytest.mark.parametrize("name", NAMES)
def test_phantoms_are_made_as_a_later_notebook_would_make_them(name):
    pages = run_profile.load(name)["pages"][run_profile.CURATION]
    for cohort in filter(is_phantom, pages):
        given = defaults(run_profile.CURATION) | pages[cohort]
        assert {name: given[name] for name in ("cases", "retests")} == provision.OPEN[cohort]


@pytest.mark.parametrize("name", NAMES)
def test_jittered_seed_points_that_a_page_embeds_are_in_the_banks_of_its_cohorts(name):
    profile = run_profile.load(name)
    for page, given in profile["pages"][run_profile.EXTRACTION].items():
        for cohort in given["cohorts"]:
            curated = defaults(run_profile.CURATION) | profile["pages"][run_profile.CURATION][cohort]
            there = curated["trials"] * len(curated["jitter_mm"])
            assert (defaults(run_profile.EXTRACTION) | given)["trials"] <= there, (page, cohort)


def test_defaults_of_extraction_are_those_that_table_names_are_told_by():
    usual = defaults(run_profile.EXTRACTION)
    assert (usual["recipes"], usual["weights"]) == (["benchmark"], "pretrained")


# Robustness and saliency


@pytest.fixture
def later(config, tmp_path, monkeypatch):
    """Empty notebooks of all stages beside the profiles of a test, and a function that loads one of them."""
    (tmp_path / "notebooks").mkdir()
    for path in run_profile.NOTEBOOKS.glob("*.ipynb"):
        (tmp_path / "notebooks" / path.name).write_text("{}")
    monkeypatch.setattr(run_profile, "NOTEBOOKS", tmp_path / "notebooks")

    def load(robustness=None, saliency=None, **others):
        pages = {
            run_profile.CURATION: {name: {"cohort": name} for name in ("phantom", "rider", "lung_ct")},
            run_profile.EXTRACTION: {
                "astra": {"model": "astra", "cohorts": ["phantom", "lung_ct"]},
                "suprem": {
                    "model": "suprem",
                    "cohorts": ["phantom"],
                    "recipes": ["benchmark", "authors"],
                    "weights": "random",
                },
                "random_encoder": {"model": "random_encoder", "cohorts": ["phantom", "rider"]},
                "volume": {"model": "volume", "cohorts": ["phantom"]},
            },
            run_profile.ROBUSTNESS: robustness or {},
            run_profile.SALIENCY: saliency or {},
            **others,
        }
        cohorts = {"phantom": None, "rider": {"sources": ["released"]}, "lung_ct": None}
        config("later", {"cohorts": cohorts, "pages": pages})
        return run_profile.load("later")

    return load


ROBUST = {
    "phantom": {"cohort": "phantom", "models": ["suprem.authors.untrained", "astra.benchmark", "volume"]},
    "rider": {"cohort": "rider", "models": ["fmcib", "random_encoder.benchmark.untrained"], "draws": 7},
}
LOOKS = {"astra": {"model": "astra", "cohorts": ["phantom", "lung_ct"]}}


def test_tables_of_a_cohort_are_named_as_their_encoders_name_them(later):
    profile = later()
    names = list(run_profile.tables(profile, "phantom"))
    assert sorted(names) == [
        "astra.benchmark",
        "random_encoder.benchmark.untrained",
        "suprem.authors.untrained",
        "suprem.benchmark.untrained",
        "volume",
    ]
    for name in ("random_encoder.benchmark.untrained", "volume"):
        assert called(name, device="cpu").name == name
    assert set(run_profile.tables(profile, "rider")) == {*TABLES["released"], "random_encoder.benchmark.untrained"}
    assert run_profile.extracted("suprem", {"weights": "mine.pt"}) == []


def test_a_page_of_robustness_reads_what_its_tables_come_from(later):
    profile = later(ROBUST)
    phantom = run_profile.inputs(profile, run_profile.ROBUSTNESS, "phantom")
    results = [f"results/{run_profile.EXTRACTION}/{model}.csv" for model in ("suprem", "astra", "volume")]
    assert set(phantom.values()) == {*results, f"results/{run_profile.CURATION}/phantom.csv"}
    rider = set(run_profile.inputs(profile, run_profile.ROBUSTNESS, "rider").values())
    assert rider == {
        f"results/{run_profile.EXTRACTION}/random_encoder.csv",
        f"results/{run_profile.CURATION}/rider.csv",
        "annotations/rider.csv",
        *(f"embeddings/rider/{name}.parquet" for name in TABLES["released"]),
    }
    assert run_profile.files(profile, run_profile.ROBUSTNESS, "rider") == []
    given = run_profile.parameters(profile, run_profile.ROBUSTNESS, "rider")
    assert given == {"sources": ["released"], "variant": "paper", **ROBUST["rider"]}


def test_a_page_of_saliency_follows_the_curation_of_its_cohorts_alone(later):
    profile, page = later(saliency=LOOKS), (run_profile.SALIENCY, "astra")
    read = {f"results/{run_profile.CURATION}/{cohort}.csv" for cohort in ("phantom", "lung_ct")}
    assert set(run_profile.inputs(profile, *page).values()) == read
    assert run_profile.files(profile, *page) == [] and run_profile.parameters(profile, *page) == LOOKS["astra"]


@pytest.mark.parametrize(
    ("robustness", "saliency", "told"),
    [
        ({"phantom": {"cohort": "phantom"}}, None, "4_robustness/phantom: no page of 2_embedding_extraction makes its"),
        (
            {"phantom": {"cohort": "phantom", "models": ["suprem.benchmark"]}},
            None,
            "models ['suprem.benchmark']. There",
        ),
        ({"phantom": {"cohort": "phantom", "models": ["fmcib"]}}, None, "models ['fmcib']. There are: astra.benchmark"),
        ({"lung_ct": {"cohort": "lung_ct", "models": ["volume"]}}, None, "['volume']. There are: astra.benchmark"),
        (
            {"rider": ROBUST["rider"] | {"controls": ["fmcib_authors_shuffled_roi"]}},
            None,
            "makes its models ['fmcib_authors_shuffled_roi']. There are: fmcib, ct_fm",
        ),
        (
            {"phantom": ROBUST["phantom"] | {"stressed": ["volume", "random_encoder.benchmark.untrained"]}},
            None,
            "4_robustness/phantom: it stresses ['random_encoder.benchmark.untrained'], which are not among its models",
        ),
        ({"mine": {"cohort": "phantom", "models": ["volume"]}}, None, "a page bears the name of its cohort"),
        ({"dlcs": {"cohort": "dlcs", "models": ["volume"]}}, None, "its cohort is not among"),
        (None, {"mine": LOOKS["astra"]}, "5_saliency/mine: a page of saliency bears the name of its model"),
        (None, {"astro": {"model": "astro", "cohorts": ["phantom"]}}, "no model is called astro"),
        (None, {"volume": {"model": "volume", "cohorts": ["phantom"]}}, "volume is a control"),
        (None, {"astra": {"model": "astra", "cohorts": ["dlcs"]}}, "no page of 1_data_curation for its cohorts"),
        (None, {"astra": {"model": "astra"}}, "no page of 1_data_curation for its cohorts"),
        (
            None,
            {"astra": LOOKS["astra"] | {"beside": ["suprem.benchmark", "astro.benchmark"]}},
            "5_saliency/astra: no encoder makes ['astro.benchmark'], which are to be mapped beside it",
        ),
    ],
)
def test_a_mistake_in_a_later_stage_is_told(later, robustness, saliency, told):
    with pytest.raises(SystemExit) as error:
        later(robustness, saliency)
    assert told in str(error.value)


def test_pages_lose_what_needs_weights_that_are_not_installed(later, monkeypatch):
    monkeypatch.setattr(run_profile.models, "installed", lambda model: model.id != "astra")
    alone = {"lung_ct": {"cohort": "lung_ct", "models": ["astra.benchmark"]}}
    random = {"suprem": {"model": "suprem", "cohorts": ["phantom"], "weights": "random"}}
    profile = later(ROBUST | alone, LOOKS | random)
    assert profile["left_out"] == ["astra"]
    assert profile["pages"][run_profile.SALIENCY] == {"suprem": random["suprem"] | {"beside": []}}
    assert "astra" not in profile["pages"][run_profile.EXTRACTION]
    kept = {page: given["models"] for page, given in profile["pages"][run_profile.ROBUSTNESS].items()}
    assert kept == {"phantom": ["suprem.authors.untrained", "volume"], "rider": ROBUST["rider"]["models"]}


SITES = {
    "page": "mine",
    "title": "endpoint",
    "cohorts": ["phantom", "rider"],
    "models": ["random_encoder.benchmark.untrained"],
}
BOARD = {run_profile.LEADERBOARD: {"leaderboard": {}}}


def test_a_page_of_several_cohorts_reads_the_tables_of_each_and_is_told_its_sources(later):
    profile = later(**{run_profile.EXTERNAL: {"mine": SITES}})
    read = set(run_profile.inputs(profile, run_profile.EXTERNAL, "mine").values())
    assert read == {
        *(f"results/{run_profile.CURATION}/{cohort}.csv" for cohort in ("phantom", "rider")),
        f"results/{run_profile.EXTRACTION}/random_encoder.csv",
        "annotations/rider.csv",
        *(f"embeddings/rider/{name}.parquet" for name in TABLES["released"]),
    }
    given = run_profile.parameters(profile, run_profile.EXTERNAL, "mine")
    assert given == {"sources": {"rider": ["released"]}, "variants": {}, **SITES}
    assert run_profile.files(profile, run_profile.EXTERNAL, "mine") == []


def test_the_leaderboard_reads_the_results_of_every_other_page(later):
    profile = later(ROBUST, LOOKS, **BOARD)
    read = run_profile.inputs(profile, run_profile.LEADERBOARD, "leaderboard").values()
    assert set(read) == {
        f"results/{stage}/{page}.csv" for stage, page, _ in pages(profile) if stage != run_profile.LEADERBOARD
    }
    assert len(read) == 3 + 4 + 2 + 1
    (given,) = run_profile.parameters(profile, run_profile.LEADERBOARD, "leaderboard").values()
    assert given == {
        stage: list(group) for stage, group in profile["pages"].items() if stage != run_profile.LEADERBOARD
    }


def test_exercises_read_the_published_tables_of_the_index_and_are_not_ranked():
    profile = run_profile.load("quick")
    (registry,) = [cohort for cohort, given in profile["cohorts"].items() if given.get("sources") == ["registry"]]
    tables = {f"embeddings/{registry}/{name}.parquet" for name in TABLES["registry"]}
    there = [stage for stage in profile["pages"] if stage.startswith("workshop_")]
    assert there == list(run_profile.WORKSHOP)
    for stage in there:
        ((page, given),) = profile["pages"][stage].items()
        assert set(run_profile.inputs(profile, stage, page).values()) == {f"annotations/{registry}.csv", *tables}
        assert run_profile.parameters(profile, stage, page) == given == {}
        assert run_profile.files(profile, stage, page) == []
    read = run_profile.inputs(profile, run_profile.LEADERBOARD, "leaderboard").values()
    assert read and not [path for path in read if "workshop" in path]
    assert not set(there) & set(run_profile.parameters(profile, run_profile.LEADERBOARD, "leaderboard")["pages"])


@pytest.mark.parametrize(
    ("stage", "page", "given", "told"),
    [
        (run_profile.WORKSHOP[2], "k", {}, "its one page is called unstable_k"),
        (run_profile.EXTERNAL, "other", SITES, "a page bears the name of its parameter page"),
        (run_profile.EXTERNAL, "mine", SITES | {"cohorts": ["phantom", "dlcs"]}, "its cohort is not among"),
        (run_profile.EXTERNAL, "mine", SITES | {"cohorts": []}, "its cohort is not among"),
        (run_profile.EXTERNAL, "mine", SITES | {"models": ["volume"]}, "makes its models ['volume']. There are: fmcib"),
        (run_profile.EXTERNAL, "mine", SITES | {"models": []}, "makes its models []"),
        (run_profile.ALIGNMENT, "phantom", {"cohort": "phantom", "models": ["fmcib"]}, "models ['fmcib']. There are"),
        (run_profile.BEYOND, "phantom", {"cohort": "rider", "models": ["fmcib"]}, "bears the name of its cohort"),
        (run_profile.LEADERBOARD, "mine", {}, "its one page is called leaderboard"),
    ],
)
def test_a_mistake_in_a_page_of_comparison_is_told(later, stage, page, given, told):
    with pytest.raises(SystemExit) as error:
        later(**{stage: {page: given}})
    assert told in str(error.value)


def test_pages_of_comparison_lose_the_tables_whose_weights_are_not_installed(later, monkeypatch):
    monkeypatch.setattr(run_profile.models, "installed", lambda model: model.id != "astra")
    alone = {"lung_ct": {"cohort": "lung_ct", "models": ["astra.benchmark"]}}
    aligned = {"phantom": {"cohort": "phantom", "models": ["volume", "astra.benchmark"]}}
    sites = {"mine": SITES | {"cohorts": ["phantom", "lung_ct"], "models": ["astra.benchmark"]}}
    given = {run_profile.ALIGNMENT: aligned | alone, run_profile.EXTERNAL: sites}
    found = later(**given, **BOARD)["pages"]
    assert found[run_profile.ALIGNMENT] == {"phantom": {"cohort": "phantom", "models": ["volume"]}}
    assert found[run_profile.EXTERNAL] == {} and found[run_profile.LEADERBOARD] == BOARD[run_profile.LEADERBOARD]


def test_tables_that_are_lost_are_neither_stressed_nor_mapped_beside_others(later, monkeypatch):
    stressed = ["astra.benchmark", "suprem.authors.untrained"]
    beside = ["astra.benchmark", "astra.benchmark.untrained", "random_encoder.benchmark.untrained"]
    robustness = {"phantom": ROBUST["phantom"] | {"stressed": stressed}, "rider": ROBUST["rider"]}
    random = {"suprem": {"model": "suprem", "cohorts": ["phantom"], "weights": "random", "beside": beside}}
    whole = later(robustness, LOOKS | random)
    assert whole["pages"][run_profile.ROBUSTNESS] == robustness
    assert whole["pages"][run_profile.SALIENCY] == LOOKS | random
    monkeypatch.setattr(run_profile.models, "installed", lambda model: model.id != "astra")
    pages = later(robustness, LOOKS | random)["pages"]
    phantom = {"cohort": "phantom", "models": ["suprem.authors.untrained", "volume"]}
    assert pages[run_profile.ROBUSTNESS]["phantom"] == phantom | {"stressed": ["suprem.authors.untrained"]}
    assert pages[run_profile.ROBUSTNESS]["rider"] == ROBUST["rider"]  # no key that it did not have
    assert pages[run_profile.SALIENCY] == {"suprem": random["suprem"] | {"beside": beside[1:]}}


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_profile_still_loads_without_the_trained_encoder(name, monkeypatch):
    monkeypatch.setattr(run_profile.models, "installed", lambda model: model.id != "astra")
    profile = run_profile.load(name)
    assert profile["left_out"] == ["astra"]
    assert "astra.benchmark" not in str(profile["pages"]) and profile["pages"][run_profile.ROBUSTNESS]["phantom"]


def test_quick_has_pages_of_robustness_and_saliency():
    pages = run_profile.load("quick")["pages"]
    assert list(pages[run_profile.ROBUSTNESS]) == ["phantom_retest", "phantom", "nsclc_radiomics"]
    assert list(pages[run_profile.SALIENCY]) == ["astra", "random_encoder"]
    assert {"phantom_retest", "phantom", "lung_ct"} <= set(pages[run_profile.CURATION])
    assert pages[run_profile.EXTRACTION]["random_encoder"]["weights"] == "random"
    assert len(pages[run_profile.ROBUSTNESS]["nsclc_radiomics"]["controls"]) == 4


@pytest.mark.parametrize("name", NAMES)
def test_a_page_of_robustness_has_the_trials_that_its_stressed_tables_and_banks_have(name):
    """Kappa needs two jittered seed points of the study's size, which the pages before must have made."""
    profile = run_profile.load(name)
    for page, given in profile["pages"][run_profile.ROBUSTNESS].items():
        if given.get("stressed"):
            curated = defaults(run_profile.CURATION) | profile["pages"][run_profile.CURATION][page]
            assert 2 <= (defaults(run_profile.ROBUSTNESS) | given)["trials"] <= curated["trials"], page
            assert curated["jitter_mm"][0] == 4.0, page


@pytest.mark.parametrize("name", NAMES)
def test_what_is_mapped_can_be_made(name):
    """Tumours come from images, and encoders to be compared with from models, under the names of their tables."""
    profile = run_profile.load(name)
    for page, given in profile["pages"][run_profile.SALIENCY].items():
        for table in given.get("beside", []):
            model, recipe, *_ = table.split(".")
            assert MODELS.get(model).recipe(recipe), (page, table)
        for cohort in given["cohorts"]:
            curated = defaults(run_profile.CURATION) | profile["pages"][run_profile.CURATION][cohort]
            assert curated["images"] != "none", (page, cohort)
            wanted = {MODELS.get(page).recipe(given.get("recipe", "benchmark")).geometry.id}
            assert wanted <= set(curated["geometries"]), (page, cohort)


@pytest.mark.parametrize("name", NAMES)
def test_models_of_extraction_are_known_and_have_their_grids(name):
    profile = run_profile.load(name)
    for page, given in profile["pages"][run_profile.EXTRACTION].items():
        used = defaults(run_profile.EXTRACTION) | given
        model = MODELS.get(page)
        wanted = {model.recipe(recipe).geometry.id for recipe in used["recipes"]} if hasattr(model, "recipe") else set()
        for cohort in used["cohorts"]:
            curated = defaults(run_profile.CURATION) | profile["pages"][run_profile.CURATION][cohort]
            assert curated["images"] != "none", (page, cohort)
            assert wanted <= set(curated["geometries"]), (page, cohort)


def test_full_extracts_the_ten_models_with_their_weights():
    given = run_profile.load("full")["pages"][run_profile.EXTRACTION]
    assert {model.id for model in TEN} <= set(given)
    assert all(given[model.id].get("weights", "pretrained") == "pretrained" for model in TEN)


def test_released_runs_ten_models_on_six_cohorts():
    given = run_profile.load("released")["pages"][run_profile.EVALUATION]
    assert set(given) - set(published.RELEASED) == {"phantom_a", "phantom_b"}
    studied = {cohort: each for cohort, each in given.items() if cohort in published.RELEASED}
    assert set(studied) == set(published.RELEASED) - {"rider"}  # it has no endpoint
    assert all({model.id for model in TEN} <= set(each["models"]) for each in studied.values())


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


EXTENDS = {"extends": "good"}
DLCS = {"cohort": "dlcs"}
COHORT = {"nsclc_radiomics": {"source": []}}
PAGE = {"3_knn_evaluation": {"luna16": {"cohort": "luna16", "models": ["fmcib"]}}}
WITHOUT_SOURCES = {"extends": "good", "cohorts": {"luna16": None}, "pages": PAGE}
RENAMED = {"3_knn_evaluation": {"mine": {"cohort": "nsclc_radiomics", "models": ["fmcib_authors"]}}}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"extends": "good", "page": {}}, "unknown keys ['page']"),
        ({"extends": "good", "cohorts": COHORT}, "cohort nsclc_radiomics: unknown keys ['source']"),
        (WITHOUT_SOURCES, "page 3_knn_evaluation/luna16: no page of 2_embedding_extraction makes its models ['fmcib']"),
        (WITHOUT_SOURCES | {"cohorts": {"luna16": {"sources": []}}}, "makes its models ['fmcib']. There are: "),
        ({"extends": "good", "pages": {"9_nothing": {}}}, "no notebook 9_nothing.ipynb"),
        ({"extends": "good", "pages": PAGE}, "page 3_knn_evaluation/luna16: its cohort is not among"),
        ({"extends": "good", "pages": {"3_knn_evaluation": {"luna16": None}}}, "page 3_knn_evaluation/luna16"),
        ({"extends": "good", "pages": RENAMED}, "page 3_knn_evaluation/mine: a page bears the name of its cohort"),
        (
            {"pages": {run_profile.EXTRACTION: {"mine": {"model": "suprem", "cohorts": ["luna16"]}}}} | EXTENDS,
            "its model",
        ),
        ({"pages": {run_profile.EXTRACTION: {"voco": {"model": "voco", "cohorts": ["dlcs"]}}}} | EXTENDS, "no page of"),
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


def test_a_cohort_without_sources_is_curated(config):
    config("curated", {"extends": "good", "cohorts": {"dlcs": None}, "pages": {"1_data_curation": {"dlcs": DLCS}}})
    profile = run_profile.load("curated")
    assert profile["cohorts"]["dlcs"] == {}
    assert run_profile.parameters(profile, "1_data_curation", "dlcs") == {
        "labels": "none", "images": "none", "write": True, "variant": "paper", "cohort": "dlcs",
    }  # fmt: skip


def test_an_unknown_profile_is_told_with_those_there_are(config):
    config("other", {"extends": "good"})
    with pytest.raises(SystemExit, match=r"no profile 'goood'.*Known: good, other"):
        run_profile.load("goood")
