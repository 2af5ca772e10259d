"""Embedding tables of a page: made where they lack, titled, marked; from tables of one or a few vectors."""

import hashlib

import numpy as np
import pandas as pd
import pytest

from tumorbench_utils import annotations, embeddings, extraction, models, provision, published, tables
from tumorbench_utils.models import Encoder
from tumorbench_utils.registry import UnknownNameError

COHORT = "own"


def put(run, name, sample_id, vectors, cohort=COHORT, **given):
    given = {"title": name.capitalize(), "recipe": "benchmark", "source": "extraction"} | given
    record = {"parameters": given, "inputs": {}}
    return embeddings.write(embeddings.path_of(run, cohort, name), sample_id, vectors, record)


@pytest.fixture
def samples(tmp_path):
    """Annotations of two patients, written into a run."""
    table = pd.DataFrame({"sample_id": ["a", "b"], "patient_id": ["a", "b"], "label": [0.0, 1.0]})
    nobody = pd.DataFrame(columns=["sample_id", "patient_id", "reason"])
    annotations.write(tmp_path, COHORT, annotations.Annotations(table, nobody), {})


def test_a_title_says_what_differs_from_a_trained_model_of_the_benchmark(tmp_path):
    given = {
        "plain": {"title": "Astra", "untrained": False},
        "random": {"title": "CT-FM", "untrained": True},
        "said": {"title": "Random encoder, untrained", "untrained": True},
        "volume": {"title": "Tumour volume", "recipe": None},
    }
    for name, parameters in given.items():
        put(tmp_path, name, ["a"], [[1.0]], **parameters)
    assert tables.titled(tmp_path, COHORT, list(given)) == {
        "plain": "Astra",
        "random": "CT-FM, untrained",
        "said": "Random encoder, untrained",
        "volume": "Tumour volume",
    }


def test_the_authors_recipe_is_said_of_tables_made_here_and_not_of_published_ones(tmp_path):
    given = {
        "authors": {"title": "FMCIB", "recipe": "authors"},
        "released": {"title": "FMCIB (own recipe)", "recipe": "authors", "source": "registry"},
        "both": {"title": "CT-FM", "untrained": True, "recipe": "authors"},
    }
    for name, parameters in given.items():
        put(tmp_path, name, ["a"], [[1.0]], **parameters)
    assert tables.titled(tmp_path, COHORT, list(given)) == {
        "authors": "FMCIB, authors' recipe",
        "released": "FMCIB (own recipe)",
        "both": "CT-FM, authors' recipe, untrained",
    }


def test_no_two_tables_have_the_same_title(tmp_path):
    given = {
        "fmcib": {"title": "FMCIB", "source": "released"},
        "fmcib.benchmark": {"title": "FMCIB"},
        "mine": {"title": "Mine", "source": "own"},
        "mine_too": {"title": "Mine", "source": "own"},
    }
    for name, parameters in given.items():
        put(tmp_path, name, ["a"], [[1.0]], **parameters)
    assert tables.titled(tmp_path, COHORT, list(given)) == {
        "fmcib": "FMCIB, as released",
        "fmcib.benchmark": "FMCIB",
        "mine": "Mine (mine)",
        "mine_too": "Mine (mine_too)",
    }
    assert tables.titled(tmp_path, COHORT, ["fmcib", "mine"]) == {"fmcib": "FMCIB", "mine": "Mine"}


def test_a_title_of_a_table_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(embeddings.EmbeddingError, match=r"nobody\.parquet: no such embedding table"):
        tables.titled(tmp_path, COHORT, ["nobody"])


@pytest.mark.parametrize(
    ("cohort", "titles", "expected"),
    [
        ("phantom", ["A"], "phantom"),
        ("phantom_retest", ["A, untrained", "B, untrained"], "phantom, untrained"),
        ("phantom", ["A", "B, untrained"], "phantom, partly untrained"),
        ("rider", ["A", "B, untrained"], "partly untrained"),
        ("rider", ["B, untrained"], "untrained"),
        ("rider", ["A", "B"], ""),
        (COHORT, [], ""),
    ],
)
def test_phantoms_and_untrained_weights_are_marked(cohort, titles, expected):
    assert tables.mark(cohort, dict(enumerate(titles))) == expected


def test_what_is_about_one_embedding_bears_the_mark_of_that_one_alone():
    marks = [tables.mark_of(cohort, title) for cohort in ("phantom", "rider") for title in ("A", "A, untrained")]
    assert marks == ["phantom", "phantom, untrained", "", "untrained"]


def test_inputs_are_the_checksums_of_the_files(tmp_path):
    path = put(tmp_path, "one", ["a"], [[1.0]])
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert tables.inputs(tmp_path, COHORT, ["one"]) == {"own/one.parquet": digest}


def provide(run, cohort, names, weights=()):
    how = {"workers": 1, "trials": 2, "jitter_mm": [4.0], "device": "cpu"}
    tables.provide(run, cohort, names, weights=dict(weights), **how)


def test_what_is_there_is_not_made_again(tmp_path, samples, monkeypatch):
    before = put(tmp_path, "fmcib_authors", ["a", "b"], np.eye(2)).read_bytes()
    monkeypatch.setattr(provision, "ensure", lambda *_: pytest.fail("nothing lacks"))
    monkeypatch.setattr(extraction, "extract", lambda *_, **__: pytest.fail("nothing lacks"))
    provide(tmp_path, COHORT, ["fmcib_authors"])
    assert embeddings.path_of(tmp_path, COHORT, "fmcib_authors").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("fmcib_authors", UnknownNameError, "fmcib_authors"),
        ("random_encoder", ValueError, "no embedding table is called 'random_encoder'"),
        ("random_encoder.benchmark.file-12", ValueError, "give its path as weights"),
    ],
)
def test_a_table_that_cannot_be_made_is_an_error_that_names_it_before_anything_is_made(tmp_path, name, error, words):
    with pytest.raises(error, match=words):
        provide(tmp_path, "phantom", [name])
    assert not list(tmp_path.iterdir())


def test_a_cohort_that_cannot_be_made_says_which_notebook_to_run(tmp_path):
    with pytest.raises(provision.ProvisionError, match=r"lacks for cohort rider.*1_data_curation\.ipynb"):
        provide(tmp_path, "rider", ["volume"])


def test_annotations_that_lack_are_asked_for_even_if_no_table_does(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(provision, "ensure", lambda *given: asked.append(given))
    put(tmp_path, "volume", ["a"], [[1.0]])
    provide(tmp_path, COHORT, ["volume"])
    assert asked == [(tmp_path, COHORT, [], 1, 2, [4.0])]


def test_a_lacking_table_is_made_with_its_annotations_and_the_others_are_left_alone(tmp_path):
    put(tmp_path, "mine", ["a"], [[1.0]], cohort="lung_ct")
    provide(tmp_path, "lung_ct", ["mine", "volume"])
    made = embeddings.read(embeddings.path_of(tmp_path, "lung_ct", "volume"))
    assert set(made.sample_id) == set(annotations.read(annotations.path_of(tmp_path, "lung_ct"))["sample_id"])
    assert embeddings.read(embeddings.path_of(tmp_path, "lung_ct", "mine")).sample_id.tolist() == ["a"]


def test_encoders_are_those_of_the_names_made_as_asked(monkeypatch):
    asked, encoder = [], Encoder.__new__(Encoder)
    monkeypatch.setattr(models, "called", lambda *given, **how: asked.append((given, how)) or encoder)
    assert tables.encoders_of(["a", "b"], {"b": "file"}, device="cpu", precision="bf16") == [encoder, encoder]
    how = {"device": "cpu", "precision": "bf16"}
    assert asked == [(("a", {"b": "file"}), how), (("b", {"b": "file"}), how)]


def test_a_control_without_a_network_cannot_be_fed_perturbed_patches():
    with pytest.raises(ValueError, match="volume, radiomics: a control has no network"):
        tables.encoders_of(["volume", "radiomics"], {})


def test_published_tables_are_fetched_from_their_sources_first(tmp_path, monkeypatch):
    def provide(run, cohort, sources, variant):
        assert (cohort, sources, variant) == (COHORT, ["released"], "strict")
        put(run, "fmcib", ["a"], [[1.0]])
        nobody = pd.DataFrame(columns=["sample_id", "patient_id", "reason"])
        table = pd.DataFrame({"sample_id": ["a"], "patient_id": ["a"], "label": [0.0]})
        annotations.write(run, cohort, annotations.Annotations(table, nobody), {})

    monkeypatch.setattr(published, "provide", provide)
    monkeypatch.setattr(extraction, "extract", lambda *_, **__: pytest.fail("nothing lacks"))
    tables.provide(tmp_path, COHORT, ["fmcib"], ["released"], "strict")
    assert embeddings.path_of(tmp_path, COHORT, "fmcib").exists()
