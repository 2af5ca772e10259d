"""Published inputs: the real registry tables, and pickles written in the released format for all ten models."""

import json
import pickle
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tests import real
from tumorbench_utils import annotations, artefacts, embeddings, published, safe_pickle
from tumorbench_utils.cohorts import STUDY
from tumorbench_utils.models import TEN

COHORTS_WITH_TABLES = [name for name in published.RELEASED if name in real.COHORT_TABLES]


def released_pickle(path, rows, models=tuple(TEN), splits=("train", "val", "test"), feature=None):
    """A pickle as the released extractor writes it; vectors are random, seeded by model."""
    content = {}
    for model in models:
        rng = np.random.default_rng(model.dim)
        make = feature or (lambda model, rng: rng.normal(size=(1, model.dim)).astype(np.float32))
        entries = [{"feature": make(model, rng), "row": row} for _, row in rows.iterrows()]
        parts = np.array_split(np.arange(len(entries)), len(splits))
        content[model.released_name] = {
            split: [entries[i] for i in part] for split, part in zip(splits, parts, strict=True)
        }
    path.write_bytes(pickle.dumps(content))
    return path


@pytest.mark.parametrize("name", published.FIGURES)
def test_figures_are_marked_as_published(name):
    table = published.figures(name)
    assert len(table) and set(table["status"]) == {"published"} and table["source"].str.contains("doi").all()


def test_figures_are_those_of_the_study():
    auc = published.figures("auc").set_index(["model", "cohort"])["auc"]
    assert len(auc) == 60
    assert auc["fmcib", "luna16"].round(3) == 0.886 and auc["models_genesis", "c4kc_kits"].round(3) == 0.734
    assert len(published.figures("overlap")) == 45 * 6 and len(published.figures("seed_kappa")) == 10 * 49
    with pytest.raises(LookupError, match="no published figures 'kappa'"):
        published.figures("kappa")


def test_registry_gives_421_patients_and_four_controls():
    given = real.registry()
    labels = given.annotations.table["label"]
    assert (int(labels.sum()), len(labels)) == (169, 421)
    assert next(iter(given.tables)) == "fmcib_authors" and len(given.tables) == 5
    for ids, vectors, record in given.tables.values():
        assert vectors.shape == (421, 4096) and np.isfinite(vectors).all()
        assert list(ids) == list(given.annotations.table["sample_id"])
        assert record["inputs"] == {published.WHEEL: published.WHEEL_SHA256}


def test_registry_rows_are_in_the_order_of_the_released_split_files():
    expected = real.cohort_rows("nsclc_radiomics")["PatientID"]
    assert list(published.released_order()["patient_id"]) == list(expected)
    assert published.released_order()["split"].value_counts().to_dict() == {"train": 210, "test": 169, "val": 42}


def test_known_identical_patients_of_the_controls():
    # the patch of these patients holds no voxel of the tumour (or nothing else), so the control changes nothing
    given = real.registry()
    ids, original, _ = given.tables["fmcib_authors"]
    for control in published.CONTROLS:
        same = ids[(given.tables[f"fmcib_authors_{control}"][1] == original).all(axis=1)]
        assert set(same) == ({"LUNG1-023"} if control.endswith("non_roi") else {"LUNG1-326", "LUNG1-399"})


@pytest.mark.parametrize("cohort", COHORTS_WITH_TABLES)
def test_released_pickles_of_every_cohort_and_of_all_ten_models(cohort, tmp_path):
    rows = real.cohort_rows(cohort)
    splits = ("train", "val", "test") if "l" in cohort and cohort != "colorectal_liver_metastases" else ("train",)
    models = list(TEN) if cohort == "c4kc_kits" else list(TEN)[:2]
    given = published.read_released(released_pickle(tmp_path / "features.pkl", rows, models, splits), cohort)
    assert list(given.tables) == [model.id for model in models]
    for model in models:
        ids, vectors, record = given.tables[model.id]
        assert np.array_equal(
            vectors, np.random.default_rng(model.dim).normal(size=(len(rows), model.dim)).astype("f4")
        )
        assert len(set(ids)) == len(rows)
        assert record["parameters"]["recipe"] == "benchmark"
    direct = annotations.from_rows(published.COHORTS.get(cohort), rows)
    pd.testing.assert_frame_equal(given.annotations.table, direct.table, check_dtype=False)
    assert len(given.annotations.excluded) == len(direct.excluded)


def rider_pickle(path):
    """RIDER as the older extractor wrote it: one split, features of some models not yet pooled (n, d)."""

    def feature(model, rng):
        return rng.normal(size=(3 if model.id == "medimageinsight" else 1, model.dim)).astype(np.float32)

    return released_pickle(path, real.cohort_rows("rider"), splits=("train",), feature=feature)


def test_rider_gives_two_scans_a_patient_and_no_label(tmp_path):
    given = published.read_released(rider_pickle(tmp_path / "rider_features.pkl"), "rider")
    table = given.annotations.table
    names = list(real.cohort_rows("rider")["PatientID"])
    assert list(table["sample_id"]) == names and len(names) == 52 and given.annotations.excluded.empty
    assert (table["sample_id"] == table["patient_id"] + table["sample_id"].str.extract("(-test|-retest)$")[0]).all()
    assert table["patient_id"].value_counts().tolist() == [2] * 26
    assert table["label"].isna().all()
    ids, vectors, _ = given.tables["medimageinsight"]
    rng = np.random.default_rng(vectors.shape[1])
    raw = [rng.normal(size=(3, vectors.shape[1])).astype(np.float32) for _ in names]
    assert list(ids) == names and vectors == pytest.approx(np.stack(raw).mean(axis=1), abs=1e-6)


def test_rider_is_provided_with_annotations_without_an_endpoint(tmp_path, monkeypatch):
    rider_pickle(tmp_path / "rider_features.pkl")
    asked = []

    def fetch(url, sha256, name):
        asked.append((url, sha256, name))
        return tmp_path / "rider_features.pkl"

    monkeypatch.setattr(published.artefacts, "fetch_url", fetch)
    paths = published.provide(tmp_path / "run", "rider", ["released"])
    assert [path.stem for path in paths] == sorted(model.id for model in TEN)
    ((url, sha256, name),) = asked
    assert url.endswith("TumorImagingBench/a6d0b24e46b500e29e96423475cde707de972591/src/tumorimagingbench/evaluation"
                        "/features/rider_features.pkl")  # fmt: skip
    assert (sha256[:8], name) == ("44a766ef", "released/rider_features.pkl")
    table = annotations.read(annotations.path_of(tmp_path / "run", "rider"))
    joined, _ = embeddings.load(tmp_path / "run", "rider", ["fmcib", "merlin"], table)
    assert len(joined.annotations) == 52 and joined.unmatched.empty
    assert published.provide(tmp_path / "run", "rider", ["released"]) == paths and len(asked) == 1


def test_a_label_on_one_side_alone_is_a_difference():
    one = pd.DataFrame({"sample_id": ["a", "b"], "label": [np.nan, 1.0]})
    published._check_agreement(one, one, "same")
    with pytest.raises(published.PublishedError, match=r"other: 1 labels differ.*\['a'\]"):
        published._check_agreement(one, one.assign(label=1.0), "other")


def test_released_pickle_of_dlcs_without_a_test_split(tmp_path):
    rows = pd.DataFrame(
        {"patient-id": ["DLCS_0001", "DLCS_0001", "DLCS_0002"], "nodule_id": [1, 2, 1], "Malignant_lbl": [0, 1, 0]}
    )
    path = released_pickle(tmp_path / "dlcs.pkl", rows, splits=("train", "val"))
    assert list(published.read_released(path, "dlcs").annotations.table["label"]) == [0, 1, 0]


@pytest.mark.parametrize(
    ("shape", "dim"),
    [((1024,), 1024), ((1, 1024), 1024), ((48, 1024), 1024), ((1, 1024, 2, 2, 2), 1024), ((1, 6, 3, 3, 512), 512)],
)
def test_pooling_takes_the_mean_over_everything_but_the_channels(shape, dim):
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    axis = shape.index(dim)
    expected = np.moveaxis(values, axis, -1).reshape(-1, dim).astype(np.float64).mean(axis=0)
    pooled = published.pool(values, dim)
    assert pooled.dtype == np.float32 and pooled == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("shape", [(1, 1000), (1024, 1024), (3,)])
def test_pooling_refuses_what_it_cannot_place(shape):
    with pytest.raises(published.PublishedError, match="axes of length 1024"):
        published.pool(np.zeros(shape), 1024)


def test_hostile_pickle_is_refused_and_runs_nothing(tmp_path):
    class Hostile:
        def __reduce__(self):
            return (type(tmp_path).touch, (tmp_path / "ran",))

    path = tmp_path / "luna.pkl"
    path.write_bytes(pickle.dumps({"FMCIBExtractor": {"train": [{"feature": Hostile(), "row": {}}]}}))
    with pytest.raises(safe_pickle.UnsafePickleError, match=r"luna\.pkl"):
        published.read_released(path, "luna16")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "holds list, not features by model"),
        ({"NewExtractor": {}}, "unknown models"),
        ({"FMCIBExtractor": {}}, "has no rows"),
        ({"FMCIBExtractor": {"train": [{"feature": np.zeros(4096)}]}}, "train, row 0 is not a feature and a row"),
        ({"FMCIBExtractor": {"val": [{"feature": np.zeros(7), "row": {}}]}}, "val, row 0: shape"),
        ({"FMCIBExtractor": {"train": [], "validation": []}}, r"has splits .*validation.* Known: train, val, test"),
        ({"FMCIBExtractor": None}, "holds no lists of rows by split"),
        ({"FMCIBExtractor": {"train": 3}}, "holds no lists of rows by split"),
        ({"FMCIBExtractor": {"train": [{"feature": np.zeros(4096), "row": None}]}}, "row 0 is not a feature and a row"),
        ({"FMCIBExtractor": {"train": [{"feature": np.zeros(4096), "row": {"a": 1}}]}}, "no column .*coordX"),
    ],
)
def test_pickles_of_another_form_are_refused(content, message, tmp_path):
    path = tmp_path / "odd.pkl"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(published.PublishedError, match=message):
        published.read_released(path, "luna16")


def narrow_registry(cohort, variant):
    """The real tables of the package index, with the first numbers of each embedding alone: written in no time."""
    given = real.registry()
    return replace(given, tables={name: (ids, of[:, :8], record) for name, (ids, of, record) in given.tables.items()})


def test_provide_writes_once_and_checks_the_variant(tmp_path, monkeypatch):
    monkeypatch.setitem(published.SOURCES, "registry", narrow_registry)
    paths = published.provide(tmp_path, "nsclc_radiomics")
    before = {path: path.stat().st_mtime_ns for path in paths}
    assert len(paths) == 5 and published.provide(tmp_path, "nsclc_radiomics") == paths
    assert {path: path.stat().st_mtime_ns for path in paths} == before
    with pytest.raises(published.PublishedError, match="made with variant 'paper', not 'strict'"):
        published.provide(tmp_path, "nsclc_radiomics", variant="strict")
    for name in ("cohrt", "luna61"):
        with pytest.raises(LookupError, match="unknown cohort"):
            published.provide(tmp_path, name)


def test_two_sources_share_annotations_and_must_agree(tmp_path, monkeypatch):
    rows = real.cohort_rows("nsclc_radiomics")
    path = released_pickle(tmp_path / "nsclc_radiomics.pkl", rows, list(TEN)[:2])
    monkeypatch.setitem(published.SOURCES, "registry", narrow_registry)
    monkeypatch.setitem(published.SOURCES, "released", lambda cohort, variant: published.read_released(path, cohort))
    assert len(published.provide(tmp_path / "run", "nsclc_radiomics", ["released", "registry"])) == 2 + 5
    wrong = rows.assign(**{"Survival.time": rows["Survival.time"].where(rows.index > 0, 1)})
    path = released_pickle(tmp_path / "nsclc_radiomics.pkl", wrong, list(TEN)[:2])
    with pytest.raises(published.PublishedError, match=r"registry: 1 labels differ.*LUNG1-074"):
        published.provide(tmp_path / "other", "nsclc_radiomics", ["released", "registry"])


def test_an_import_killed_before_its_end_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setitem(published.SOURCES, "registry", narrow_registry)
    whole = published.provide(tmp_path / "whole", "nsclc_radiomics")
    monkeypatch.setattr(annotations, "write", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        published.provide(tmp_path / "killed", "nsclc_radiomics")
    monkeypatch.undo()
    monkeypatch.setitem(published.SOURCES, "registry", narrow_registry)
    again = published.provide(tmp_path / "killed", "nsclc_radiomics")
    assert [artefacts.sha256_of(path) for path in again] == [artefacts.sha256_of(path) for path in whole]


def test_published_auc_is_set_beside_the_right_tables_only():
    records = {
        "fmcib_authors": {"model": "fmcib", "recipe": "authors", "control": None},
        "fmcib": {"model": "fmcib", "recipe": "benchmark", "control": None, "source": "released"},
        "fmcib.benchmark": {"model": "fmcib", "recipe": "benchmark", "control": None, "source": "extraction"},
        "untrained": {"model": "fmcib", "recipe": "benchmark", "control": None, "untrained": True},
        "shuffled": {"model": "fmcib", "recipe": "authors", "control": "shuffled_roi"},
        "mine": {"model": "mine", "recipe": "authors", "control": None},
    }
    table = published.auc_of("nsclc_radiomics", records)
    assert list(table["model"]) == ["fmcib_authors", "fmcib", "fmcib.benchmark"]
    assert list(table["same_features"]) == [False, True, False]
    assert list(table["same_recipe"]) == [False, True, True]
    assert table["auc"].round(3).tolist() == [0.577] * 3 and set(table["status"]) == {"published"}
    assert published.auc_of("rider", records).empty


def test_command_line_writes_a_run_and_names_what_is_wrong(tmp_path):
    command = [sys.executable, "-m", "tumorbench_utils.published", "--run", str(tmp_path), "--cohort"]
    run = subprocess.run([*command, "nsclc_radiomics"], capture_output=True, text=True)
    assert run.returncode == 0 and len(run.stdout.splitlines()) == 5
    record = json.loads(artefacts.provenance_path(annotations.path_of(tmp_path, "nsclc_radiomics")).read_text())
    assert record["parameters"] == {"cohort": "nsclc_radiomics", "variant": "paper"}
    table = embeddings.read(embeddings.path_of(tmp_path, "nsclc_radiomics", "fmcib_authors"))
    assert table.provenance["parameters"]["recipe"] == "authors"
    wrong = subprocess.run([*command, "luna16"], capture_output=True, text=True)
    assert wrong.returncode == 1 and "nsclc_radiomics only, not of 'luna16'" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_published_figures_name_models_and_cohorts_of_the_registries():
    cohorts = {cohort.id for cohort in STUDY}
    assert set(published.figures("auc")["cohort"]) == set(published.figures("overlap")["cohort"]) == cohorts - {"rider"}
    assert set(published.RELEASED) == cohorts
    places = {cohort: file.split("/")[0] for cohort, (file, _) in published.RELEASED.items()}
    assert [cohort for cohort, commit in places.items() if commit != published.COMMIT] == ["rider"]


def test_models_of_one_pickle_must_agree_on_labels(tmp_path):
    rows = real.cohort_rows("nsclc_radiomics").head(4)
    path = released_pickle(tmp_path / "features.pkl", rows, list(TEN)[:2], ("train",))
    content = pickle.loads(path.read_bytes())
    content["CTFMExtractor"]["train"][0]["row"] = rows.iloc[0].copy()
    content["CTFMExtractor"]["train"][0]["row"]["Survival.time"] = 1
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(published.PublishedError, match="CTFMExtractor: 1 labels differ"):
        published.read_released(path, "nsclc_radiomics")


def test_notes_say_no_more_than_the_figures():
    paired = pd.DataFrame({"low": [-0.06, -0.02]})
    note = published.controls_note("A", paired, [])
    assert "a loss of up to 0.06 AUC cannot be excluded" in note and "no proof" in note
    limits = {"auc": [0.7], "low_published": [0.55], "high_published": [0.6]}
    comparison = pd.DataFrame({"title": ["A"], "same_features": [False], "same_recipe": [False], **limits})
    assert "Our mean lies outside" in published.comparison_note(comparison, "paper")
    assert "Another endpoint" in published.comparison_note(comparison, "strict")
    own = published.comparison_note(comparison.assign(same_recipe=True), "paper")
    assert own.startswith("**Same recipe, other features** (A)") and "released" not in own
    released = published.comparison_note(comparison.assign(same_recipe=True, same_features=True), "paper")
    assert released.startswith("**Same features** (A)") and "extracted in this run" not in released


def test_tables_of_sources_are_named_and_an_unknown_source_is_told():
    assert published.tables(["released", "registry"])[:2] == ["fmcib", "ct_fm"]
    assert len(published.tables(["released", "registry"])) == 15
    with pytest.raises(LookupError, match=r"unknown source 'nowhere'\. Known: registry, released"):
        published.tables(["registry", "nowhere"])
